"""The words of the page. The first language is that of whoever asks for none of these.

What a model says stays as its config has it: names of classes are nobody's to translate.
"""

LANGUAGES: dict[str, dict[str, str]] = {
    "en": {
        "language": "English",
        "title": "Read photographs",
        "assists": "It assists, and does not diagnose.",
        "notice": (
            "Research software, not a medical device. What it says is no diagnosis: a person "
            "looks at every photograph, and decides."
        ),
        "private": (
            "Photographs go to this server alone, are held in memory until they are answered, and "
            "are not stored."
        ),
        "alarms": "Alarms of this model’s evaluation",
        "drop": "Drop photographs here, or choose them",
        "formats": "JPEG, PNG, TIFF, BMP, WebP, HEIC, JPEG 2000 or DICOM; several at once",
        "key": "Key of the server",
        "model": "Model",
        "version": "version",
        "rule": "Rule",
        "clear_all": "Remove all",
        "answers": "Answers",
        "reading": "Reading",
        "waiting": "The server is busy; trying again",
        "done": "Photographs answered:",
        "suspected": "Suspected",
        "clear": "Nothing suspected",
        "decided": "Answer",
        "not_read": "Not read",
        "failed": "No answer",
        "probabilities": "Probabilities",
        "details": "All figures",
        "view": "View",
        "original": "Original",
        "overlay": "Overlay",
        "heatmap": "Heat map",
        "opacity": "Opacity of the heat map",
        "zoom": "Zoom",
        "shown": "The photograph as the model sees it, with the places that raised the number",
        "flagged": "The quality gate has doubts about this photograph",
        "black": "The photograph is black.",
        "blown_out": "The photograph is overexposed.",
        "no_retina": "No retina is seen on the photograph.",
        "unreadable": "The file is damaged, or no image of a known format.",
        "too_large": "The photograph is too large.",
        "no_hounsfield_units": "The file holds no CT in Hounsfield units.",
        "wrong_key": "The key is missing or wrong.",
        "no_server": "The server does not answer.",
    },
    "ko": {
        "language": "한국어",
        "title": "사진 판독",
        "assists": "판독을 도울 뿐, 진단하지 않습니다.",
        "notice": (
            "연구용 소프트웨어이며 의료기기가 아닙니다. 결과는 진단이 아닙니다. "
            "모든 사진은 사람이 보고 사람이 판단합니다."
        ),
        "private": (
            "사진은 이 서버로만 전송되고, 답할 때까지만 메모리에 있으며, 저장되지 않습니다."
        ),
        "alarms": "이 모델의 평가에서 나온 경고",
        "drop": "사진을 여기에 놓거나 선택하세요",
        "formats": "JPEG, PNG, TIFF, BMP, WebP, HEIC, JPEG 2000, DICOM. 여러 장도 됩니다",
        "key": "서버 키",
        "model": "모델",
        "version": "버전",
        "rule": "판정 기준",
        "clear_all": "모두 지우기",
        "answers": "결과",
        "reading": "판독 중",
        "waiting": "서버가 바쁩니다. 다시 시도합니다",
        "done": "답한 사진 수:",
        "suspected": "의심",
        "clear": "의심 소견 없음",
        "decided": "결과",
        "not_read": "판독하지 않음",
        "failed": "응답 없음",
        "probabilities": "확률",
        "details": "모든 수치",
        "view": "보기",
        "original": "원본",
        "overlay": "겹쳐 보기",
        "heatmap": "히트맵",
        "opacity": "히트맵 불투명도",
        "zoom": "확대",
        "shown": "모델이 본 사진과, 수치를 높인 부위",
        "flagged": "품질 검사에서 이 사진을 의심합니다",
        "black": "사진이 검습니다.",
        "blown_out": "사진이 지나치게 밝습니다.",
        "no_retina": "사진에 망막이 보이지 않습니다.",
        "unreadable": "파일이 손상되었거나 알 수 없는 형식입니다.",
        "too_large": "사진이 너무 큽니다.",
        "no_hounsfield_units": "하운스필드 단위의 CT 파일이 아닙니다.",
        "wrong_key": "키가 없거나 틀렸습니다.",
        "no_server": "서버가 응답하지 않습니다.",
    },
}
