"""What the errors of stores' clients mean, by the answers that they carry and by their names."""

import pytest
import requests

from dr_tfx.storage import store_errors


def answered(status: int, **headers: str) -> requests.HTTPError:
    """The error of an answer, which carries it as those of the Hub's and Microsoft's clients do."""
    answer = requests.Response()
    answer.status_code = status
    answer.headers.update(headers)
    return requests.HTTPError(f"{status}\n\nfrom the store", response=answer)


def named(kind: str, base: type[Exception] = Exception) -> Exception:
    return type(kind, (base,), {})("said\nso. Attempted credentials:\n\tone, two")


@pytest.mark.parametrize("status", [401, 403, 404, 416, 429, 503])
def test_an_answer_that_an_error_carries_is_understood(status):
    assert store_errors.status(answered(status)) == status
    try:
        try:
            raise answered(status)
        except requests.HTTPError as error:
            raise RuntimeError("Failed to upload block") from error
    except RuntimeError as wrapped:
        assert store_errors.status(wrapped) == status


def test_the_wait_that_an_answer_asks_for_is_understood():
    assert store_errors.asked_wait(answered(503, **{"Retry-After": "7"})) == 7
    assert store_errors.asked_wait(answered(429)) == 0
    assert store_errors.asked_wait(answered(429, **{"Retry-After": "Wed, 21 Oct 2026"})) == 0


def test_errors_that_carry_no_answer_are_known_by_their_names():
    for kind in ("RefreshError", "ClientAuthenticationError", "NoCredentialsError"):
        assert store_errors.status(named(kind)) == 401
        assert store_errors.status(type("Unavailable", (type(named(kind)),), {})()) == 401
    assert store_errors.status(named("ServiceRequestError")) == 0
    assert store_errors.status(named("HfUriError", ValueError)) == 0


def test_a_sentence_has_one_line_and_the_way_to_log_in():
    told = store_errors.told("az://b/x", named("ClientAuthenticationError"))
    assert told.startswith("az://b/x may not be used (ClientAuthenticationError: said so)")
    ways = "az login and AZURE_STORAGE_ACCOUNT_NAME, or AZURE_STORAGE_CONNECTION_STRING"
    assert told.endswith(f"Log in ({ways}).")
    assert "hf auth login" in store_errors.told("hf://datasets/a/b/x", answered(401))
    missing = store_errors.told("az://none/x", answered(404))
    assert missing.startswith("az://none/x: HTTPError: 404 from the store. Check the address")
