"""The part of OCSF 1.8 that audit logs need, and the classification of vendor events.

The classification is data: integrations/<kind>.csv has one row per pattern (stream, action,
class_uid, activity_id). A row without wildcards wins, then the first matching pattern. Events that
match none are API Activity, the catch-all.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from importlib import resources

VERSION = "1.8.0"
OTHER = 99

_CRUD = {1: "Create", 2: "Read", 3: "Update", 4: "Delete"}

CLASSES: dict[int, tuple[str, dict[int, str]]] = {
    2004: ("Detection Finding", {1: "Create", 2: "Update", 3: "Close"}),
    3001: (
        "Account Change",
        {
            1: "Create",
            2: "Enable",
            3: "Password Change",
            4: "Password Reset",
            5: "Disable",
            6: "Delete",
            7: "Attach Policy",
            8: "Detach Policy",
            9: "Lock",
            10: "MFA Factor Enable",
            11: "MFA Factor Disable",
            12: "Unlock",
        },
    ),
    3002: (
        "Authentication",
        {
            1: "Logon",
            2: "Logoff",
            3: "Authentication Ticket",
            4: "Service Ticket Request",
            5: "Service Ticket Renew",
            6: "Preauth",
            7: "Account Switch",
        },
    ),
    3003: ("Authorize Session", {1: "Assign Privileges", 2: "Assign Groups"}),
    3004: (
        "Entity Management",
        {
            **_CRUD,
            5: "Move",
            6: "Enroll",
            7: "Unenroll",
            8: "Enable",
            9: "Disable",
            10: "Activate",
            11: "Deactivate",
            12: "Suspend",
            13: "Resume",
        },
    ),
    3005: ("User Access Management", {1: "Assign Privileges", 2: "Revoke Privileges"}),
    3006: (
        "Group Management",
        {
            1: "Assign Privileges",
            2: "Revoke Privileges",
            3: "Add User",
            4: "Remove User",
            5: "Delete",
            6: "Create",
            7: "Add Subgroup",
            8: "Remove Subgroup",
        },
    ),
    6001: (
        "Web Resources Activity",
        {**_CRUD, 5: "Search", 6: "Import", 7: "Export", 8: "Share"},
    ),
    6002: (
        "Application Lifecycle",
        {1: "Install", 2: "Remove", 3: "Start", 4: "Stop", 5: "Restart", 6: "Enable", 7: "Disable",
         8: "Update"},
    ),
    6003: ("API Activity", _CRUD),
    6006: (
        "File Hosting Activity",
        {
            1: "Upload",
            2: "Download",
            3: "Update",
            4: "Delete",
            5: "Rename",
            6: "Copy",
            7: "Move",
            8: "Restore",
            9: "Preview",
            10: "Lock",
            11: "Unlock",
            12: "Share",
            13: "Unshare",
            14: "Open",
            15: "Sync",
            16: "Unsync",
            17: "Access Check",
        },
    ),
    6008: ("Application Error", {1: "General Error", 2: "Translation Error"}),
}  # fmt: skip

CATCH_ALL = (6003, OTHER)

Classify = Callable[[str, str | None], tuple[int, int]]


@cache
def classifier(kind: str) -> Classify:
    """Return a function (stream, action) -> (class_uid, activity_id), from the kind's CSV."""
    # Most rules have no wildcard: a dictionary finds them without trying patterns one by one.
    exact: dict[tuple[str, str], tuple[int, int]] = {}
    patterns: list[tuple[str, str, tuple[int, int]]] = []
    for stream, action, answer in rules(kind):
        if any(mark in action for mark in "*?[") or (stream.strip("*") and "*" in stream):
            patterns.append((stream, action, answer))
        else:
            exact.setdefault((stream, action), answer)

    @lru_cache(maxsize=65536)
    def classify(stream: str, action: str | None) -> tuple[int, int]:
        if action is None:
            return CATCH_ALL
        for place in (stream, "*"):
            if (place, action) in exact:
                return exact[place, action]
        for in_stream, pattern, answer in patterns:
            if fnmatchcase(stream, in_stream) and fnmatchcase(action, pattern):
                return answer
        return CATCH_ALL

    return classify


def rules(kind: str) -> list[tuple[str, str, tuple[int, int]]]:
    """Return the rules of a kind: stream pattern, action pattern, (class_uid, activity_id)."""
    path = resources.files("pipelines.integrations") / f"{kind}.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as text:
        return [
            (row["stream"], row["action"], (int(row["class_uid"]), int(row["activity_id"])))
            for row in csv.DictReader(text)
        ]


def class_name(class_uid: int) -> str:
    return CLASSES[class_uid][0]


def activity_name(class_uid: int, activity_id: int) -> str:
    return CLASSES[class_uid][1].get(activity_id, "Other")
