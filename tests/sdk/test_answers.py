"""A service's own errors are shown on one line and without secrets; pages are recognised."""

import httpx
import pytest

from pipelines.sdk import answers

SECRET = "s3cret-token-of-this-test"


def response(status=403, *, headers=None, sent=None, form=None, **body):
    request = httpx.Request(
        "POST", "https://vendor.example/logs?after=abc", headers=sent, data=form
    )
    return httpx.Response(status, headers=headers, request=request, **body)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"errorCode": "E0000006", "errorSummary": "No permission"}, "E0000006: No permission"),
        ({"error": {"code": "AF20022", "message": "No subscription"}}, "AF20022: No subscription"),
        ({"error": {"code": 403, "message": "Denied", "errors": [{}]}}, "403: Denied"),
        ({"error": "invalid_client", "error_description": "Unknown"}, "invalid_client: Unknown"),
        ({"error": "invalid_client"}, "invalid_client"),
        ({"errors": [{"code": 1000, "message": "Invalid token"}]}, "1000: Invalid token"),
        ({"errors": [{"code": "ADMIN-400", "detail": "Invalid"}]}, "ADMIN-400: Invalid"),
        ({"errors": ["broken"]}, "broken"),
        ({"errors": {"limit": "too high"}}, "limit: too high"),
        ({"message": "Unauthorized"}, "Unauthorized"),
        ({"Message": "Authorization has been denied"}, "Authorization has been denied"),
        ({"code": 401, "message": "Unauthorized"}, "401: Unauthorized"),
        ({"success": False, "errors": [], "result": None}, ""),
        ({"error": {"message": {"deep": 1}}}, ""),
        ({"error": 5, "errors": 6, "message": 7}, ""),
        ({}, ""), ([], ""), (17, ""), (None, ""),
    ],
)  # fmt: skip
def test_the_error_of_every_service_is_found(body, said):
    assert answers.message(response(json=body)) == said


@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"{", b'{"error":' * 9000, b"\xff\xfe", b'"text"']
)
def test_a_body_without_an_error_has_no_message(content):
    assert answers.message(response(content=content)) == ""


def test_a_message_is_one_short_line_without_invisible_characters():
    text = "first\r\nok raw/okta FORGED\x1b[2J\u202e\u200b " + "x" * 1000
    said = answers.message(response(json={"message": text}))
    assert said.startswith(r"first ok raw/okta FORGED\x1b[2J\u202e\u200b xxx")
    assert len(said) < 300


@pytest.mark.parametrize(
    "sent", [{"Authorization": f"SSWS {SECRET}"}, {"Authorization": SECRET}, {"x-api-key": SECRET}]
)
def test_a_credential_that_the_service_repeats_is_hidden(sent):
    said = answers.message(response(json={"message": f"bad key {SECRET}!"}, sent=sent))
    assert said == "bad key ***!"


def test_credentials_of_settings_of_forms_and_of_known_shapes_are_hidden():
    repeated = f"{SECRET} form-secret eyJhbGci.eyJzdWIi.c2ln Bearer abc"
    form = {"grant_type": "client_credentials", "client_secret": "form-secret"}
    said = answers.message(response(json={"message": repeated}, form=form), [SECRET])
    assert said == "*** *** *** Bearer ***"


@pytest.mark.parametrize(
    ("status", "headers", "content", "page"),
    [
        (200, {"Content-Type": "text/html"}, b"<html>sign in</html>", True),
        (200, {"Content-Type": "application/json"}, b"\xef\xbb\xbf\n <!DOCTYPE html><p>", True),
        (200, {}, b"<WISPAccessGatewayParam/>", True),
        (403, {"Content-Type": "text/html; charset=utf-8"}, b"<center>blocked", True),
        (403, {}, b"<!doctype HTML><title>Just a moment...</title>", True),
        (404, {"Content-Type": "application/xml"}, b"<?xml version='1.0'?><Error/>", False),
        (200, {"Content-Type": "text/html"}, b'[{"a":1}]', False),
        (200, {"Content-Type": "text/html"}, b"", False),
        (200, {}, b"https://files.example/1.json", False),
        (403, {"Content-Type": "application/json"}, b'{"message":"<html>"}', False),
    ],
)
def test_a_page_is_recognised_whatever_its_content_type(status, headers, content, page):
    assert answers.is_page(response(status, headers=headers, content=content)) is page


def test_the_error_for_a_page_names_the_address_and_the_title_on_one_line():
    found = response(200, content=b"<title>\nSign in\x1b[2J to\n Wi-Fi </title>")
    said = str(answers.page_error(found))
    assert said.startswith("POST https://vendor.example/logs answered 200 with a web page (Sign in")
    assert "abc" not in said
    assert said.isprintable()
