"""Generated messages read as sentences."""

import polars as pl
import pytest

from pipelines.mapping import messages
from pipelines.schemas import EVENTS

BOB = {"id": "u2", "name": "Bob", "type": "User"}
ADMINS = {"id": "g1", "name": "Admins", "type": "UserGroup"}
LEDGER = {"id": "f1", "name": "Ledger", "type": "document"}


def said(class_uid, activity_id, **columns):
    row = dict.fromkeys(EVENTS) | {"actor_name": "Ada", "outcome": "success", "targets": []}
    row |= {"class_uid": class_uid, "activity_id": activity_id}
    (message,) = messages.sentences(pl.DataFrame([row | columns], schema=EVENTS))
    return message


@pytest.mark.parametrize(
    ("kind", "columns", "message"),
    [
        ((3006, 3), {"targets": [ADMINS, BOB]}, "Ada added Bob to user group Admins"),
        ((3006, 3), {"targets": [ADMINS], "action": "GroupJoin"}, "Ada joined group: Admins"),
        ((3001, 1), {"targets": [BOB]}, "Ada created Bob"),
        ((3001, 3), {"targets": [{**BOB, "name": "Ada"}]},
         "Ada changed the password of their own account"),
        ((6006, 12), {"targets": [LEDGER, BOB]}, "Ada shared document Ledger with Bob"),
        ((6006, 12), {"targets": [LEDGER]}, "Ada shared document Ledger"),
        ((6006, 1), {"action": "attachment_upload", "targets": [{**LEDGER, "type": "space"}]},
         "Ada uploaded attachment: Ledger"),
        ((3002, 1), {}, "Ada signed in"),
        ((3002, 1), {"outcome": "unknown"}, "Ada tried to sign in"),
        ((3002, 1), {"outcome": "failure", "outcome_reason": "locked"},
         "Ada could not sign in (locked)"),
        ((3002, 1), {"actor_name": None, "actor_email": "ada@acme.io"}, "ada@acme.io signed in"),
        ((3002, 2), {"actor_name": None}, "Somebody signed out"),
        ((3004, 99), {"action": "CHANGE_USER_ACCESS"}, "Ada changed user access"),
        ((3004, 3), {"action": "Update policy.", "targets": [{**ADMINS, "type": "Policy"}]},
         "Ada updated policy: Admins"),
        ((3004, 9), {"action": "firewall_rule_disable", "outcome": "failure"},
         "Ada could not disable firewall rule"),
        ((3004, 1), {"action": "create_matter_begin"}, "Ada began to create matter"),
        ((3004, 1), {"action": "create_matter_end"}, "Ada created matter"),
        ((6001, 4), {"action": "delete_export_fail", "outcome": "failure"},
         "Ada could not delete export"),
        ((3006, 99), {"action": "invite_accept"}, "Ada accepted invite"),
        ((6001, 2), {"action": "PageViewed"}, "Ada viewed page"),
        ((6003, 99), {"action": "rare thing", "actor_name": None, "actor_type": "system"},
         "The system: rare thing"),
        ((6003, 99), {}, "Ada: unknown"),
        ((6003, 99), {"action": "..", "targets": [{"id": None, "name": None, "type": "x"}]},
         "Ada: unknown"),
    ],
)  # fmt: skip
def test_a_message_names_actor_activity_and_target(kind, columns, message):
    assert said(*kind, **columns) == message


def test_a_very_long_event_name_is_cut():
    assert len(said(6003, 99, action="x" * 10_000)) < 200
