"""Risk detections of Microsoft Entra ID Protection: their frequencies and records.

https://learn.microsoft.com/graph/api/resources/riskdetection
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

from sandbox.company import Habit, Happening
from sandbox.microsoft import guid
from sandbox.services.entra_id_events import location, moment, visitor

HABITS = (
    Habit(what="unfamiliarFeatures", weight=6, acts=("sign_in",)),
    Habit(what="unlikelyTravel", weight=2),
    Habit(what="newCountry", weight=1),
    Habit(what="anonymizedIPAddress", weight=0.5),
    Habit(what="leakedCredentials", weight=0),
    Habit(what="anomalousToken", weight=0),
    Habit(what="attackerinTheMiddle", weight=0),
    Habit(what="suspiciousInboxForwarding", weight=0),
    Habit(what="mcasSuspiciousInboxManipulationRules", weight=0),
)
"""Those without weight only happen in incidents."""
_AFTERWARDS = frozenset({"unlikelyTravel", "newCountry"})
"""Found offline, some time after the activity."""
_SETTLED = ("remediated", "userPassedMFADrivenByRiskBasedPolicy")
_OPEN = ("atRisk", "none")


def render(happening: Happening, rng: Random) -> dict[str, Any]:
    """Return a riskDetection; a second factor has settled what is not part of an attack."""
    place, device = happening.place, happening.device
    assert place  # noqa: S101 people have places
    assert device  # noqa: S101
    state, detail = _OPEN if happening.suspicious else _SETTLED
    time = moment(happening.time, rng)
    correlation = guid(f"{happening.session} {time}")
    return {
        "id": f"{rng.getrandbits(256):064x}",
        "requestId": guid(f"request {correlation}"),
        "correlationId": correlation,
        "riskType": happening.what,
        "riskEventType": happening.what,
        "riskState": state,
        "riskLevel": "high" if happening.suspicious else "low",
        "riskDetail": detail,
        "source": "IdentityProtection",
        "detectionTimingType": "offline" if happening.what in _AFTERWARDS else "realtime",
        "activity": "signin",
        "tokenIssuerType": "AzureAD",
        "ipAddress": place.ip,
        "location": location(place),
        "activityDateTime": time,
        "detectedDateTime": time,
        "lastUpdatedDateTime": time,
        **visitor(happening.actor),
        "additionalInfo": json.dumps(
            [{"Key": "userAgent", "Value": device.user_agent}], separators=(",", ":")
        ),
    }
