"""The public example agent of wire-formats.md, and books to plan from."""

from eth_account import Account as EthAccount
from eth_account.messages import encode_defunct

from plumised.ipc.messages import Counters
from plumised.ledger import AcceptedReport, Account, Figures, ReportBooks, ReportInFlight, Totals
from plumised.oracle.formats import Dialect

ADDRESS = "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"
URL = "http://oracle:15481"
NOW = 1770000000


class ExampleSigner:
    """Signs with the public example key."""

    def __init__(self, key: bytes = b"\x46" * 32) -> None:
        self._account = EthAccount.from_key(key)

    @property
    def address(self) -> str:
        return str(self._account.address)

    def sign_text(self, text: str) -> str:
        return "0x" + bytes(self._account.sign_message(encode_defunct(text=text)).signature).hex()

    def sign_transaction(self, fields: dict[str, int | str | bytes]) -> str:
        return "0x" + bytes(self._account.sign_transaction(fields).raw_transaction).hex()


def account(dialect: Dialect = Dialect.METRICS_V1, url: str = URL, agent: str = ADDRESS) -> Account:
    return Account(agent, url, dialect.value)


def totals(tokens: int, requests: int | None = None, service_us: int = 0) -> Totals:
    return Totals(Counters(tokens if requests is None else requests, 0, tokens, service_us), Counters(), Counters())


def accepted(base: Figures, covered: Figures, of: Account | None = None) -> AcceptedReport:
    return AcceptedReport(of or account(), NOW - 60, NOW - 60.0, base, covered, 1)


def flying(
    age: int = 0, dialect: Dialect = Dialect.METRICS_V1, proofs: tuple[int, ...] = (), url: str = URL
) -> ReportInFlight:
    return ReportInFlight(account(dialect, url), NOW - age, "{}", Figures(), Figures(5, 5, 5), proofs)


def books(
    total: Totals | None = None,
    last: AcceptedReport | None = None,
    in_flight: ReportInFlight | None = None,
    last_signed: int = 0,
) -> ReportBooks:
    return ReportBooks(total or Totals(), last, in_flight, last_signed)
