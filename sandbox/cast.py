"""The fictional company's people, places, devices and applications.

Everything is invented: the domain `.example` (RFC 2606), the networks (RFC 5737, RFC 2544) and the
AS numbers (RFC 5398) are reserved for examples and tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

DOMAIN = "larkfield.example"

Sort = Literal["app", "group", "document", "policy", "token", "role", "report", "directory", "zone"]
"""The kind of a `Thing`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Place:
    """A network address and the geographic location it maps to."""

    ip: str
    city: str
    state: str
    country: str
    code: str
    postal_code: str
    latitude: float
    longitude: float
    utc_offset: float
    as_number: int
    isp: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Device:
    name: str
    os: str
    os_version: str
    browser: str
    user_agent: str
    mobile: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Account:
    """A person or machine that acts. The vendor itself and strangers have no e-mail address."""

    kind: Literal["person", "service", "system", "stranger"]
    name: str
    email: str = ""
    department: str = ""
    title: str = ""
    places: tuple[Place, ...] = ()
    """Home first, then the office; empty for the vendor itself."""
    devices: tuple[Device, ...] = ()
    admin: bool = False

    @property
    def utc_offset(self) -> float:
        return self.places[0].utc_offset if self.places else 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Thing:
    """The object of an event, such as an application, a group or a document."""

    sort: Sort
    name: str


_CITIES = (
    # city, state, country, code, postal code, latitude, longitude, offset from UTC
    ("Dublin", "Leinster", "Ireland", "IE", "D02", 53.34, -6.26, 0.0),
    ("Berlin", "Berlin", "Germany", "DE", "10115", 52.53, 13.38, 1.0),
    ("New York", "New York", "United States", "US", "10013", 40.72, -74.0, -5.0),
    ("Denver", "Colorado", "United States", "US", "80202", 39.75, -105.0, -7.0),
    ("Toronto", "Ontario", "Canada", "CA", "M5V", 43.64, -79.39, -5.0),
    ("São Paulo", "São Paulo", "Brazil", "BR", "01310", -23.56, -46.65, -3.0),
    ("Bengaluru", "Karnataka", "India", "IN", "560001", 12.97, 77.59, 5.5),
    ("Singapore", "Singapore", "Singapore", "SG", "018956", 1.28, 103.85, 8.0),
    ("Sydney", "New South Wales", "Australia", "AU", "2000", -33.87, 151.21, 10.0),
)
_ABROAD = ("Panama City", "Panamá", "Panama", "PA", "0801", 8.98, -79.52, -5.0)
_DATA_CENTRE = ("Ashburn", "Virginia", "United States", "US", "20147", 39.04, -77.49, -5.0)

_NAMES = """
Aisha Okonkwo, Alma Lindqvist, Amit Deshpande, Anouk Verhoeven, Bao Tran, Beatriz Moura,
Ben Halloran, Carla Figueroa, Cedric Boateng, Chiara Ferrante, Clara Nyström,
Daniel Petrov, Daphne Kowalczyk, Dario Bianchetti, Deepa Raghavan, Diego Salcedo,
Elif Karadeniz, Emeka Adeyemi, Emma Thornbury, Farah Siddiqui, Fergus Mulcahy,
Gita Narayanan, Greta Hallström, Hana Fujimori, Hugo Desrosiers, Ines Carvalhal,
Ivan Dragomirov, Jasmine Oyelaran, Jonas Brandvold, Juno Castellane, Kaito Shimazu,
Keiko Morinaga, Lars Engebretsen, Leila Haddadin, Liam Corrigan, Lucia Montenegro,
Maeve Gallagher, Malik Traore, Mara Vukovic, Mei Lingwood, Milan Horvatin, Nadia Benkirane,
Nikhil Bhandari, Nora Eklund, Oisin Breathnach, Olga Smirnitskaya, Omar Khalidi,
Paula Restrepo, Priya Venkataraman, Quentin Marchetti, Rafael Quintero, Ravi Subramanian,
Rosa Delacroix, Sanne Dewitte, Sofia Papadakis, Tariq Mansouri, Theo Vanderberg,
Uma Krishnaswamy, Viktor Osterman, Wanjiru Kamau, Xiomara Beltran, Yusuf Demirel,
Zoe Ashgrove
"""

_DEPARTMENTS = (
    # name, title, people, administrators among them
    ("IT", "Systems Administrator", 3, 3),
    ("Security", "Security Engineer", 2, 2),
    ("Engineering", "Engineer", 20, 1),
    ("Sales", "Account Executive", 11, 0),
    ("Support", "Support Specialist", 8, 0),
    ("Finance", "Accountant", 6, 0),
    ("Marketing", "Marketing Manager", 5, 0),
    ("Product", "Product Manager", 4, 0),
    ("People", "People Partner", 3, 0),
    ("Legal", "Counsel", 1, 0),
)

_SERVICE_ACCOUNTS = ("CI Deployer", "Backup Runner", "SCIM Provisioner", "Data Warehouse Loader")

_WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
_LAPTOPS = (
    Device(
        name="Mac15,6",
        os="Mac OS X",
        os_version="15.7.1",
        browser="CHROME",
        user_agent="Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) "
        f"{_WEBKIT} Chrome/141.0.0.0 Safari/537.36",
    ),
    Device(
        name="21HM004GUS",
        os="Windows 11",
        os_version="10.0.26100",
        browser="CHROMIUM_EDGE",
        user_agent="Mozilla/5.0 (Windows NT 10.0; Win64; x64) "
        f"{_WEBKIT} Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0",
    ),
    Device(
        name="Laptop 13",
        os="Linux",
        os_version="6.12",
        browser="FIREFOX",
        user_agent="Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0",
    ),
)
_PHONES = (
    Device(
        name="iPhone16,1",
        os="iOS (iPhone)",
        os_version="26.1",
        browser="SAFARI",
        user_agent="Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) AppleWebKit/605.1.15 "
        "(KHTML, like Gecko) Version/26.1 Mobile/15E148 Safari/604.1",
        mobile=True,
    ),
    Device(
        name="Pixel 9",
        os="Android",
        os_version="16",
        browser="CHROME",
        user_agent="Mozilla/5.0 (Linux; Android 10; K) "
        f"{_WEBKIT} Chrome/141.0.0.0 Mobile Safari/537.36",
        mobile=True,
    ),
)
SCRIPT = Device(
    name="container",
    os="Unknown",
    os_version="",
    browser="UNKNOWN",
    user_agent="python-requests/2.32.5",
)

_THING_NAMES: dict[Sort, str] = {
    "app": "Google Workspace|Slack|GitHub Enterprise|Jira Software|Confluence|Zoom|Salesforce.com|"
    "Office 365|AWS IAM Identity Center|Figma|Notion|Workday|Zendesk|Expensify|Datadog|PagerDuty|"
    "Snowflake|Tableau|DocuSign|NetSuite|Greenhouse|Miro|1Password|Lattice",
    "policy": "Default Policy|Office Sign-On|Remote Sign-On|Contractors|Password Policy|"
    "MFA Enrollment|Admin Console|Finance Applications",
    "token": "Terraform|Log Export|Onboarding Script|HR Sync|Asset Inventory",
    "role": "Super Administrator|Application Administrator|Help Desk Administrator|"
    "Group Administrator|Read Only Administrator|Report Administrator",
    "report": "System Log|MFA Usage|Application Usage|Password Health|Access Review",
    "directory": "corp.larkfield.example|Workday|Google Workspace",
    "zone": "Offices|VPN Egress|Blocked Countries",
}
_DOCUMENTS = (
    "Forecast|Roadmap|Contract|Payroll|Design|Runbook|Customer List|Board Deck|Budget|Offer"
)


def people(rng: Random) -> list[Account]:
    """Return all employees, ordered by department; `rng` assigns names, homes and devices."""
    names = [name.strip() for name in _NAMES.split(",")]
    rng.shuffle(names)
    found: list[Account] = []
    for department, title, count, admins in _DEPARTMENTS:
        for nth in range(count):
            name = names[len(found)]
            found.append(
                _person(name, department, title, rng, number=len(found), admin=nth < admins)
            )
    return found


def service_accounts() -> list[Account]:
    return [
        Account(
            kind="service",
            name=name,
            email=f"svc-{name.lower().replace(' ', '-')}@{DOMAIN}",
            department="IT",
            title="Service account",
            places=(_place(_DATA_CENTRE, f"198.51.100.{200 + nth}", 64499, "Example Cloud"),),
            devices=(SCRIPT,),
        )
        for nth, name in enumerate(_SERVICE_ACCOUNTS)
    ]


def strangers() -> list[Account]:
    """Return unknown outsiders, one per IP address."""
    cities = (*_CITIES, _ABROAD)
    return [
        Account(
            kind="stranger",
            name=f"192.0.2.{20 + nth}",
            places=(_place(city, f"192.0.2.{20 + nth}", 64500, "Example Hosting"),),
            devices=(SCRIPT, *_LAPTOPS),
        )
        for nth, city in enumerate(cities)
    ]


def attackers_places() -> list[Place]:
    """Return the attacker's places, all in a country where no employee works."""
    return [_place(_ABROAD, f"203.0.113.{66 + nth}", 64505, "Example Móvil") for nth in range(3)]


def things(people: list[Account]) -> dict[Sort, list[Thing]]:
    """Return the company's things by sort, most used first."""
    departments = dict.fromkeys(person.department for person in people)
    names: dict[Sort, list[str]] = {
        **{sort: text.split("|") for sort, text in _THING_NAMES.items()},
        "group": ["Everyone", *departments, "VPN Users", "Contractors", "AWS Production"],
        "document": [
            f"{d} {w} {y}" for y in (2026, 2025) for d in departments for w in _DOCUMENTS.split("|")
        ],
    }
    return {sort: [Thing(sort=sort, name=name) for name in found] for sort, found in names.items()}


def _person(
    name: str, department: str, title: str, rng: Random, *, number: int, admin: bool
) -> Account:
    city = rng.randrange(len(_CITIES))
    home = _place(_CITIES[city], f"198.18.{city}.{number + 10}", 64496 + city % 3, "Example Fibre")
    office = _place(_CITIES[city], f"198.51.100.{city * 8 + 2}", 64498, "Larkfield")
    phones = (rng.choice(_PHONES),) if rng.random() < 0.8 else ()
    return Account(
        kind="person",
        name=name,
        email=f"{name.lower().replace(' ', '.').replace('ö', 'o')}@{DOMAIN}",
        department=department,
        title=title,
        # Places are drawn uniformly: two days out of three are spent at the office.
        places=(home, office, office),
        devices=(rng.choice(_LAPTOPS), *phones),
        admin=admin,
    )


def _place(
    city: tuple[str, str, str, str, str, float, float, float], ip: str, as_number: int, isp: str
) -> Place:
    name, state, country, code, postal_code, latitude, longitude, utc_offset = city
    return Place(
        ip=ip,
        city=name,
        state=state,
        country=country,
        code=code,
        postal_code=postal_code,
        latitude=latitude,
        longitude=longitude,
        utc_offset=utc_offset,
        as_number=as_number,
        isp=isp,
    )
