"""What the errors of the clients of object stores mean, in numbers of HTTP and in sentences.

Every client has errors of its own. They are told by what they carry and by their names, so that no
package of a store has to be there.
"""

import re
from collections.abc import Iterator

REFUSED = (401, 403)  # The credentials are not enough.
_UNCREDITED = {  # Errors of those who find no credentials, or cannot renew them.
    "ClientAuthenticationError",  # Microsoft's.
    "NoCredentialsError",  # Amazon's.
    "RefreshError",  # Google's.
}
_LOG_IN = {
    "gs": "gcloud auth application-default login",
    "s3": "aws sso login",
    "az": "az login and AZURE_STORAGE_ACCOUNT_NAME, or AZURE_STORAGE_CONNECTION_STRING",
    "hf": "hf auth login, or HF_TOKEN",
}
# What follows is for those who keep the store, or the same at length.
_AT_LENGTH = re.compile(r"RequestId:|Attempted credentials:|For more information check:")
_LONGEST = 300  # Characters of what a client says.


def status(error: BaseException) -> int:
    """Return the number of HTTP that an error stands for; 0 if it is none, or has none."""
    for cause in _causes(error):
        if isinstance(cause, FileNotFoundError):
            return 404
        if isinstance(cause, PermissionError) or str(cause).startswith("Forbidden"):
            return 403
        answer = getattr(cause, "response", None)
        if isinstance(answer, dict):  # Amazon's.
            answer = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        told = (getattr(cause, key, 0) for key in ("status", "code", "status_code"))
        for found in (answer, getattr(answer, "status_code", 0), *told):
            if str(found).isdigit() and (number := int(str(found))):
                return number
        if _UNCREDITED.intersection(kind.__name__ for kind in type(cause).__mro__):
            return 401
        if str(cause).startswith("unable to connect to account"):  # Microsoft's: nobody named one.
            return 401
    return 0


def asked_wait(error: BaseException) -> float:
    """Return the seconds that a store asks to wait (the header Retry-After); 0 if it does not."""
    for cause in _causes(error):
        answer = getattr(cause, "response", None)
        if isinstance(answer, dict):
            headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        else:
            headers = getattr(cause, "headers", None) or getattr(answer, "headers", None) or {}
        named = {str(key).lower(): str(value) for key, value in dict(headers).items()}
        if (seconds := named.get("retry-after", "")).isdigit():
            return float(seconds)
    return 0.0


def why(error: BaseException) -> str:
    """Return what a client says of its error, in one line."""
    said = " ".join(_AT_LENGTH.split(f"{type(error).__name__}: {error}")[0].split())
    return said[:_LONGEST].rstrip(" .:")


def told(path: str, error: BaseException) -> str:
    """Return a sentence about a client's error at a path, with the likely fix if there is one."""
    if status(error) in REFUSED:
        return (
            f"{path} may not be used ({why(error)}): there are no credentials, they have expired, "
            f"or they do not reach that far. Log in{log_in(path)}."
        )
    if status(error) == 404:
        return f"{path}: {why(error)}. Check the address, and make the bucket if it is missing."
    return f"{path}: {why(error)}"


def log_in(path: str) -> str:
    """Return the usual ways to log in at the store of a path, in brackets; "" if it has none."""
    scheme = path.partition("://")[0]
    return f" ({_LOG_IN[scheme]})" if scheme in _LOG_IN else ""


def unseen(path: str) -> str:
    """Return what else it may mean that nothing is at a path, with a space before it, or ""."""
    if not path.startswith("hf://"):
        return ""
    return f" A private repository is not there for whoever is not logged in{log_in(path)}."


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
