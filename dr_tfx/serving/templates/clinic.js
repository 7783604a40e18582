"use strict";
// Sends photographs one by one, or slices of series together, a few requests at a time, and shows
// what is answered. Nothing is kept: what the page knows of a photograph is gone when it is left.
(() => {
  const AT_ONCE = 3, TRIES = 30, SECONDS = 1000;
  const { heatmaps, together, words } = JSON.parse(document.getElementById("settings").textContent);
  const get = (id) => document.getElementById(id);
  const [drop, files, answers, readings, status] =
    ["drop", "files", "answers", "readings", "status"].map(get);
  // The files of requests, and addresses of files that are shown.
  const waiting = [], owned = [];
  let running = 0;

  function add(list) {
    const all = list.map((file) => {
      const one = begin(file, file.name);
      one.find(".word").textContent = words.reading;
      one.find(".icon").textContent = "…";
      one.item.setAttribute("aria-busy", "true");
      readings.append(one.item);
      return one;
    });
    while (all.length) waiting.push(all.splice(0, together));
    tell();
    while (running < AT_ONCE && waiting.length) work();
  }

  function begin(file, name) {
    const item = get("reading").content.firstElementChild.cloneNode(true);
    const find = (selector) => item.querySelector(selector);
    find(".name").textContent = name;
    return { file, item, find };
  }

  // The first frame of a file takes its place in the list, and the others follow.
  function place(answers, group) {
    return group.flatMap((one, i) => {
      const frames = answers.filter(({ file }) => file === i);
      if (frames.length > 1) one.find(".name").textContent = frames[0].name;
      const others = frames.slice(1).map(({ name }) => begin(one.file, name));
      one.item.after(...others.map(({ item }) => item));
      return [one, ...others];
    });
  }

  async function work() {
    running += 1;
    while (waiting.length) {
      const group = waiting.shift();
      try {
        const told = await ask(group);
        const placed = place(told, group);
        placed.forEach((one, i) => show(one, told[i]));
        placed.forEach(({ item }, i) => gather(item, told[i].patient));
      } catch (error) {
        group.forEach((one) => fail(one, error.message));
      }
      group.forEach(({ item }) => item.removeAttribute("aria-busy"));
      tell();
    }
    running -= 1;
  }

  function tell() {
    const all = readings.children.length;
    answers.hidden = all === 0;
    const busy = readings.querySelectorAll(":scope > [aria-busy]").length;
    status.textContent = `${words.done} ${all - busy} / ${all}`;
  }

  async function ask(group) {
    for (let tries = 0; tries < TRIES; tries += 1) {
      const body = new FormData(), key = get("key");
      group.forEach(({ file }) => body.append("photograph", file));
      const headers = key ? { Authorization: `Bearer ${key.value}` } : {};
      let answer;
      try {
        answer = await fetch(`v1/predict?heatmap=${heatmaps}`, { method: "POST", body, headers });
      } catch {
        throw new Error(words.no_server);
      }
      if (answer.status === 429 || answer.status === 503) {
        group.forEach(({ find }) => { find(".word").textContent = words.waiting; });
        const after = Number(answer.headers.get("Retry-After")) || 1;
        await new Promise((resolve) => setTimeout(resolve, after * SECONDS));
        continue;
      }
      const told = await answer.json().catch(() => ({}));
      if (told.photographs) return told.photographs;
      if (answer.status === 401) throw new Error(words.wrong_key);
      throw new Error(told.detail || words.no_server);
    }
    throw new Error(words.waiting);
  }

  function fail({ item, find }, why) {
    item.classList.add("failed");
    find(".icon").textContent = "!";
    find(".word").textContent = words.failed;
    find(".why").textContent = why;
  }

  function show(one, told) {
    const { item, find } = one;
    if (told.rejected) {
      const { reason, detail } = told.rejected;
      fail(one, `${words[told.quality.verdict || reason] || ""} (${reason}: ${detail})`);
      item.classList.replace("failed", "not-read");
      find(".word").textContent = words.not_read;
      return;
    }
    const kinds = { true: ["suspected", "!"], false: ["clear", "✓"], null: ["decided", "•"] };
    const [kind, icon] = kinds[told.suspected];
    item.classList.add(kind);
    find(".icon").textContent = icon;
    find(".word").textContent = words[kind];
    find(".decision").textContent = told.answer.decision || told.words;
    const { gradable, verdict } = told.quality;
    find(".why").textContent = gradable ? "" : `${words.flagged}: ${words[verdict] || verdict}`;
    showFigures(find, told);
    if (told.heatmap) showMap(one, told.heatmap, told.lesions.length > 0);
  }

  // Photographs of a patient stand together, and each says how many there are.
  function gather(item, patient) {
    if (!patient) return;
    item.dataset.patient = patient;
    const mates = [...readings.children].filter((one) => one.dataset.patient === patient);
    if (mates.length < 2) return;
    mates.slice(1).reduce((last, one) => (last.after(one), one), mates[0]);
    const suspected = mates.filter((one) => one.classList.contains("suspected")).length;
    const values = { patient, n: mates.length, m: suspected };
    for (const one of mates) {
      const line = one.querySelector(".patient");
      line.textContent = words.of_patient.replace(/{(\w+)}/g, (_, name) => values[name]);
      line.hidden = false;
    }
  }

  function element(name, text, parent) {
    const made = document.createElement(name);
    made.textContent = text;
    parent.append(made);
    return made;
  }

  function showFigures(find, told) {
    const shares = Object.entries(told.probabilities);
    for (const [name, share] of shares) {
      const row = element("div", "", find(".probabilities"));
      element("dt", name, row);
      element("dd", `${(100 * share).toFixed(1)} %`, row);
      const bar = element("dd", "", row);
      bar.className = "bar";
      bar.setAttribute("aria-hidden", "true");
      element("i", "", bar).style.width = `${100 * share}%`;
    }
    find("h4").hidden = shares.length === 0;
    find(".lesions-title").hidden = told.lesions.length === 0;
    for (const { kind, count, area, colour } of told.lesions) {
      const row = element("li", "", find(".lesions"));
      element("i", "", row).style.background = colour;
      element("span", `${kind}: ${count} (${(100 * area).toFixed(2)} %)`, row);
    }
    for (const [name, value] of Object.entries(told.answer)) {
      const row = element("tr", "", find("tbody"));
      element("th", name.replaceAll("_", " "), row).scope = "row";
      element("td", typeof value === "number" ? value.toFixed(3) : (value ?? "–"), row);
    }
    find(".told").hidden = false;
  }

  function showMap({ file, find }, { photograph, heatmap }, isOutlined) {
    const [picture, map, opacity, zoom] =
      [".photograph", ".map", ".opacity", ".zoom"].map(find);
    const seen = `data:image/png;base64,${photograph}`;
    map.src = `data:image/png;base64,${heatmap}`;
    const shown = isOutlined ? words.outlines : words.heatmap;
    map.alt = `${shown}: ${file.name}`;
    const buttons = [...find(".views").children];
    buttons.find((button) => button.dataset.view === "heatmap").textContent = shown;
    if (isOutlined) opacity.value = 100;
    // The file itself, with all its pixels, where the browser can read it.
    const original = new Image();
    original.src = URL.createObjectURL(file);
    owned.push(original.src);
    const isRead = () => original.complete && original.naturalWidth > 0;
    const view = (name) => {
      const isOriginal = name === "original" && isRead();
      picture.src = isOriginal ? original.src : seen;
      picture.alt = `${isOriginal ? words.original : words.seen}: ${file.name}`;
      for (const button of buttons) {
        button.setAttribute("aria-pressed", String(button.dataset.view === name));
      }
      picture.style.visibility = name === "heatmap" ? "hidden" : "visible";
      map.style.visibility = name === "original" ? "hidden" : "visible";
      map.style.opacity = name === "overlay" ? opacity.value / 100 : 1;
      opacity.disabled = name !== "overlay";
    };
    const slide = (input, apply) => {
      const moved = () => {
        input.parentElement.querySelector("output").textContent = `${input.value} %`;
        apply();
      };
      input.addEventListener("input", moved);
      moved();
    };
    for (const button of buttons) {
      button.addEventListener("click", () => view(button.dataset.view));
    }
    slide(opacity, () => view("overlay"));
    slide(zoom, () => { find(".layers").style.width = `${zoom.value}%`; });
    find(".seen").hidden = false;
    original.addEventListener("load", () => {
      const whole = 100 * original.naturalWidth / find(".stage").clientWidth;
      zoom.max = Math.max(zoom.max, zoom.step * Math.ceil(whole / zoom.step));
    });
    original.addEventListener("error", () => {
      URL.revokeObjectURL(original.src);
      buttons.find((button) => button.dataset.view === "original").textContent = words.seen;
    });
  }

  files.addEventListener("change", () => {
    add([...files.files]);
    files.value = "";
  });
  for (const name of ["dragenter", "dragover"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    add([...event.dataTransfer.files]);
  });
  get("clear").addEventListener("click", () => {
    waiting.length = 0;
    owned.splice(0).forEach((address) => URL.revokeObjectURL(address));
    readings.replaceChildren();
    tell();
    files.focus();
  });
})();
