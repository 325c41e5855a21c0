"""Who asks the admin API, and what their groups let them do there. Shared by the supervisor's API and the console."""

from __future__ import annotations

from hoopfast.config import Admin
from hoopfast.errors import GatewayError
from hoopfast.model import Frozen, Identity

ADMIN = "admin"                     # everything but deciding on approvals
AUDITOR = "auditor"                 # reads sessions and the audit trail
APPROVER = "approver"               # uses the approvals; each request names the groups that may decide it

LOCAL_ADMIN = "local-admin"         # the service's own user, on the admin socket; no secret may carry this name


class Refused(GatewayError):
    """An admin request that is not carried out: HTTP `status`, what is wrong, and in `hint` what to do."""

    def __init__(self, status: int, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.hint = hint


class Principal(Frozen, frozen=True):
    """A proven person at the admin API. `local`: came over the admin socket, so is the service's own user."""

    identity: Identity
    roles: frozenset[str]
    local: bool = False

    def need(self, *roles: str) -> None:
        """Raises Refused(403) unless the person has one of the roles."""
        if self.roles.isdisjoint(roles):
            wanted = " or ".join(roles)
            settings = " and ".join(f"admin.{_SETTING[role]}" for role in roles)
            raise Refused(
                403,
                f"{self.identity.user} may not do this: it takes the role {wanted}",
                hint=f"Roles come from groups: see {settings} in hoopfast.yaml.",
            )


_SETTING = {ADMIN: "groups", AUDITOR: "auditors", APPROVER: "approvers"}


def principal_of(identity: Identity, admin: Admin) -> Principal:
    """The roles that these groups give. May be none: then every route answers 403."""
    groups = frozenset(identity.groups)
    named = {ADMIN: admin.groups, AUDITOR: admin.auditors, APPROVER: admin.approvers}
    return Principal(identity=identity, roles=frozenset(role for role, of in named.items() if groups.intersection(of)))


def local_principal() -> Principal:
    """The service's own user on the admin socket."""
    identity = Identity(user=LOCAL_ADMIN, subject=LOCAL_ADMIN, issuer="gateway", method="socket")
    return Principal(identity=identity, roles=frozenset((ADMIN, AUDITOR, APPROVER)), local=True)
