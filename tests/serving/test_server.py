"""A real server over loopback: its answers are drtfx-predict's, and nothing makes it fail."""

import base64
import concurrent.futures
import io
import json
import os
import re
import signal
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

import dr_tfx
from tests.helpers import dicom_files, exports, served
from tests.helpers.drawn import draw, encode

DASHBOARD = served.ROOT / "docs" / "deploy" / "grafana" / "server.json"
SHOWN_OF_TRITON = {
    "nv_inference_count",
    "nv_inference_request_success",
    "nv_inference_queue_duration_us",
}


def picture(number, kind="JPEG"):
    stream = io.BytesIO()
    rgb = cv2.cvtColor(cv2.imdecode(np.frombuffer(encode(draw(number)), np.uint8), 1), 4)
    Image.fromarray(rgb).save(stream, kind)
    return stream.getvalue()


@pytest.fixture(scope="module")
def eyes():
    return [(f"eye {number}.jpeg", encode(draw(number))) for number in range(6)]


def test_answers_of_many_clients_are_those_of_predict(server, export, eyes):
    """One or several photographs in a request, in several formats; each answer is its own."""
    model = dr_tfx.load_export(export)
    rgb = cv2.imdecode(np.frombuffer(eyes[0][1], np.uint8), 1)[..., ::-1].copy()
    dicom = dicom_files.dicom(rgb)
    files = [*eyes, ("눈.tiff", picture(7, "TIFF")), ("a.png", picture(8, "PNG")), ("b.dcm", dicom)]
    expected = {name: model.predict(data) for name, data in files}
    assert len({round(answer["score"], 6) for answer in expected.values()}) > 6

    def ask(turn):
        given = [files[(turn + i) % len(files)] for i in range(turn % 3 + 1)]
        answer = server.predict(*given)
        assert answer.status == 200, answer.content
        told = answer.json["photographs"]
        assert [one["name"] for one in told] == [name for name, _ in given]
        for one in told:
            assert one["answer"] == pytest.approx(expected[one["name"]], abs=1e-6)
            assert one["quality"] == {"gradable": True, "verdict": ""} and not one["rejected"]

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(60)))
    sizes = server.get("/metrics").content.decode()
    (pictures,) = [line for line in sizes.splitlines() if line.startswith("drtfx_batch_pictures_s")]
    assert float(pictures.split()[1]) >= 120


def test_heat_maps_and_the_body_of_one_photograph(server, export, eyes):
    name, data = eyes[1]
    answer = server.ask("POST", f"/v1/predict?heatmap=true&name={name.replace(' ', '%20')}", data)
    (told,) = answer.json["photographs"]
    explained = dr_tfx.load_export(export).explain(data)
    photograph, layer = (
        cv2.imdecode(np.frombuffer(base64.b64decode(told["heatmap"][key]), np.uint8), -1)
        for key in ("photograph", "heatmap")
    )
    assert told["name"] == name
    np.testing.assert_array_equal(photograph[..., ::-1], explained.photograph)
    # The mean of each square of 8 pixels, as exports.py says, between their centres.
    squares = explained.photograph.reshape(4, 8, 4, 8, 3).mean(axis=(1, 3, 4)) / 255
    values = cv2.resize(squares.astype(np.float32), (32, 32), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(layer[..., 3], 255 * values, atol=1)
    assert told["answer"]["score"] == pytest.approx(exports.score(explained.photograph), abs=1e-6)


def test_what_cannot_be_read_is_refused_with_the_reason_of_predict(server, export, eyes):
    model, data = dr_tfx.load_export(export), eyes[0][1]
    large = picture(0, "PNG")
    header = b"IHDR" + (1 << 16).to_bytes(4, "big") * 2 + large[24:29]
    head = large[:12] + header + zlib.crc32(header).to_bytes(4, "big") + large[33:]
    black = cv2.imencode(".png", np.zeros((90, 90, 3), np.uint8))[1].tobytes()
    cases = [(data[: len(data) // 2], 422, "unreadable"), (b"<html>", 415, "unreadable")]
    cases += [(head, 413, "too_large"), (b"", 422, "unreadable"), (black, 422, "ungradable:black")]
    for damaged, status, reason in cases:
        answer = server.predict(("a.png", damaged))
        (told,) = answer.json["photographs"]
        assert (answer.status, told["rejected"]["reason"]) == (status, reason)
        with pytest.raises(ValueError) as refused:
            model.predict(damaged)
        assert f"{reason}: {told['rejected']['detail']}" in str(refused.value)
        assert told["answer"] is None and not told["quality"]["gradable"]
    assert told["quality"]["verdict"] == "black"
    mixed = server.predict(eyes[0], ("<b>\x07", b"no image"))
    assert mixed.status == 200
    assert [bool(one["answer"]) for one in mixed.json["photographs"]] == [True, False]
    assert mixed.json["photographs"][1]["name"] == "<b>\\u0007"


def test_limits_of_a_request(server, eyes):
    small = [("a.png", b"x")]
    assert server.predict(*small * 41).status == 413
    assert server.predict(*small * 40).status == 415
    assert server.predict(("a", bytes(1_000_001))).status == 413
    wide = cv2.imencode(".png", np.zeros((1001, 1000, 3), np.uint8))[1].tobytes()
    told = server.predict(("a", wide))
    assert told.status == 413 and "1000x1001: more than 1 million pixels" in told.content.decode()
    long = server.ask("POST", "/v1/predict", iter([bytes(1 << 20)] * 20))  # No Content-Length.
    assert long.status == 413 and "2 million bytes" in long.json["detail"]
    assert server.predict(("a", bytes(30_000_000))).status == 413
    assert server.predict().status == 422 and server.ask("POST", "/v1/predict").status == 422
    body, kind = served.form(eyes[:2])
    for damaged in (body[:-30], body[:-1000], body.replace(b"name=", b"eman="), b""):
        assert server.ask("POST", "/v1/predict", damaged, content_type=kind).status == 422
    assert server.ask("POST", "/v1/predict", body, content_type=kind.split(";")[0]).status == 422
    assert server.predict(*eyes).status == 200


def test_without_the_key_there_is_no_answer(server, eyes):
    for wrong in (None, "Bearer a key of the test", "a key of the tests", "Bearer é"):
        for path in ("/v1/models", "/metrics"):
            assert server.get(path, Authorization=wrong).status == 401
        assert server.predict(eyes[0], Authorization=wrong).status == 401
    assert [server.get(path, Authorization=None).status for path in ("/healthz", "/readyz")] == [
        *(200, 200)
    ]


def test_pages_of_others_are_refused(server):
    """A browser sends their requests too; one may even think that their name is this machine."""
    assert server.get("/healthz", Origin="http://elsewhere.example").status == 403
    assert server.get("/healthz", Host="elsewhere.example").status == 403
    assert server.get("/healthz", Host="[::1").status == 403
    own = server.get("/healthz", Origin=server.address)
    assert own.status == 200 and own.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in own.headers["content-security-policy"]


def test_the_routes_describe_themselves(server, export):
    (model,) = server.get("/v1/models").json["models"]
    assert model["rule"] == "The decision is 'positive' from a score of 0.450 up."
    assert model["groups"] == ["negative", "positive"] and model["heatmaps"] is True
    described = server.get("/openapi.json").json
    predict = described["paths"]["/v1/predict"]["post"]
    assert {"200", "401", "408", "413", "415", "422", "429", "503"} == set(predict["responses"])
    example = predict["responses"]["200"]["content"]["application/json"]["example"]
    given = json.loads((export / "export.json").read_text())
    assert given["format"] == 1 and example["photographs"][0]["answer"]["decision"] == "abnormal"


def test_a_model_is_exchanged_and_the_end_waits_for_what_was_begun(export, eyes, tmp_path):
    folder = tmp_path / "export"
    folder.symlink_to(export)
    server = served.Server(f"--model={folder}", "--max_photographs=200")
    try:
        before = server.predict(eyes[0]).json
        other = exports.write(tmp_path / "other", bias=2.0)
        (tmp_path / "next").symlink_to(other)
        os.replace(tmp_path / "next", folder)
        server.process.send_signal(signal.SIGHUP)
        versions = []
        while len(set(versions)) < 2:  # Each request is answered, by one or the other.
            answer = server.predict(*eyes)
            assert answer.status == 200
            versions.append(answer.json["model"]["version"])
        after = server.predict(eyes[0]).json
        scores = [told["photographs"][0]["answer"]["score"] for told in (before, after)]
        logits = [np.log(score / (1 - score)) for score in scores]
        assert logits[1] - logits[0] == pytest.approx(2, abs=1e-4)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            begun = pool.submit(server.predict, *eyes * 33, query="?heatmap=true")
            while b"in_work 0.0" in (told := server.get("/metrics").content):
                assert told and not begun.done()
            code, said = server.stop()
            answer = begun.result()
        assert answer.status == 200 and len(answer.json["photographs"]) == 198
        assert code == 0 and "eye" not in said
        with pytest.raises(OSError):
            server.get("/healthz")
    finally:
        server.process.kill()
        server.process.communicate()


def test_the_dashboard_shows_what_the_server_tells(server):
    told = server.get("/metrics").content.decode()
    types = dict(re.findall(r"^# TYPE (\S+(?<!_created)) (\S+)$", told, re.MULTILINE))
    names = {*types, *SHOWN_OF_TRITON}
    for name, kind in types.items():
        if kind == "histogram":
            names |= {f"{name}_{part}" for part in ("bucket", "sum", "count")}
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = " ".join(target["expr"] for panel in panels for target in panel["targets"])
    found = set(re.findall(r"\b(?:drtfx|process|nv)_\w+", asked))
    assert found <= names, found - names
    assert {name for name in types if name.startswith("drtfx_")} <= {
        re.sub("_(bucket|sum|count)$", "", name) for name in found
    }
