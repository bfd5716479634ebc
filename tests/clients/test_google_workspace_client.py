"""Google's own client and sign-in read the simulated Workspace without complaint."""

import json

import pytest

pytest.importorskip("googleapiclient", reason="make test-clients installs it")

from google.oauth2 import service_account
from googleapiclient.discovery import build

from pipelines.sandbox import google_workspace, server
from pipelines.sandbox.server import Options

pytestmark = [pytest.mark.clients, pytest.mark.filterwarnings("ignore")]


def test_an_application_is_read_to_its_end():
    with server.running(Options(seed=5, days=12, per_day=400, rate=0)) as box:
        base_url = f"{box.base_url}/google_workspace"
        settings = google_workspace.SERVICE.settings(base_url)
        credentials = service_account.Credentials.from_service_account_info(
            json.loads(settings["credentials"]),
            scopes=["https://www.googleapis.com/auth/admin.reports.audit.readonly"],
            subject=settings["subject"],
        )
        api = build(
            "admin",
            "reports_v1",
            credentials=credentials,
            client_options={"api_endpoint": base_url},
        )
        activities, found = api.activities(), []
        request = activities.list(userKey="all", applicationName="login", maxResults=100)
        while request is not None:
            answer = request.execute()
            found += answer.get("items", [])
            request = activities.list_next(request, answer)
        api.close()
        assert len(found) == len(box.sandbox.ledger("google_workspace", "login")) > 100
