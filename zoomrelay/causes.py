"""What goes wrong between an event at Zoom and its receivers, and what helps: one table. Pure.

Errors, logs, readiness, `zoomrelay doctor` and docs/troubleshooting.md take their words from here. Zoom's
codes and texts are those that its documents, its staff or its users quote; a code stands in one section
once, and means there what the section's head says. Wherever Zoom's wording is used at all it is a hint:
it was changed twice without notice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cause:
    """One row: how it is told apart, what it means, what to do."""

    key: str
    """The word for it in logs, metrics and reports."""
    meaning: str
    cure: str
    permanent: bool = False
    """Trying again will not help before somebody has acted."""
    codes: tuple[int, ...] = ()
    """Zoom's numbers, close codes of WebSocket, as the section says."""
    words: tuple[str, ...] = ()
    """Values of the field `error` of an OAuth answer."""
    says: tuple[str, ...] = ()
    """Texts of Zoom's, for people; code looks for the lower-case phrases in `phrases`."""
    phrases: tuple[str, ...] = ()
    """What of a bare text tells it apart, in lower case."""
    statuses: tuple[int, ...] = ()
    """HTTP statuses."""
    about_app: bool = False
    """It speaks of the app, its owner or its account, not of how we ask."""


@dataclass(frozen=True, slots=True)
class Section:
    """The causes of one stage of the way."""

    title: str
    head: str
    causes: tuple[Cause, ...]

    def by_code(self, code: int) -> Cause | None:
        return next((cause for cause in self.causes if code in cause.codes), None)

    def by_word(self, word: str) -> Cause | None:
        return next((cause for cause in self.causes if word in cause.words), None)

    def by_phrase(self, text: str) -> Cause | None:
        lowered = text.lower()
        return next((c for c in self.causes if any(phrase in lowered for phrase in c.phrases)), None)

    def by_status(self, status: int) -> Cause | None:
        return next((cause for cause in self.causes if status in cause.statuses), None)

    def by_key(self, key: str) -> Cause | None:
        return next((cause for cause in self.causes if cause.key == key), None)


# --- on the way -------------------------------------------------------------------------------------

DNS = Cause(
    "dns",
    "The host's name leads to no address.",
    "check the name server of this machine, and how the address is spelt in the configuration",
)
TCP = Cause(
    "tcp",
    "No connection to the host: refused, or no route to it.",
    "check that this machine may reach the host on its TCP port (443 at Zoom), or set proxy",
)
TIMEOUT = Cause(
    "timeout",
    "No answer in time: most often a firewall drops what it should refuse.",
    "check that this machine may reach the host on its TCP port (443 at Zoom), or set proxy",
)
PROXY = Cause(
    "proxy",
    "The proxy refused, wants other credentials, cannot be reached or cannot be used.",
    "check proxy, HTTPS_PROXY and NO_PROXY; HTTP proxies are supported, SOCKS is not",
    statuses=(407,),
)
TLS = Cause(
    "tls",
    "The certificate is not trusted here, or the TLS handshake failed.",
    "if a proxy opens TLS on the way, set ca_file to its certificate",
)
TLS_DATE = Cause(
    "tls_date",
    "The certificate has expired or is not valid yet.",
    "the certificate is not valid today: check this machine's clock; if that is right, the other side must"
    " renew",
)
INTERCEPTED = Cause(
    "intercepted",
    "The certificate of a host of Zoom's comes from no public authority: something on the way opens TLS.",
    "that works as long as ca_file or the system trusts its issuer; it sees every token and every event, so"
    " ask for an exception for *.zoom.us",
)
CA_FILE = Cause("ca_file", "The file of authorities cannot be used.", "check ca_file", True)
CLOCK_OFF = Cause(
    "clock_off",
    "This machine's clock is wrong.",
    "set the clock and keep it right (timedatectl set-ntp true); until then times in the ledger and the log"
    " are wrong, and certificates may seem expired",
)

WAY = Section(
    "On the way",
    "Between this machine and a host, Zoom's or a receiver's.",
    (DNS, TCP, TIMEOUT, PROXY, TLS, TLS_DATE, INTERCEPTED, CA_FILE, CLOCK_OFF),
)

# --- the token endpoint -----------------------------------------------------------------------------

INVALID_CLIENT = Cause(
    "invalid_client",
    "Client id or client secret is wrong, or the secret was made anew.",
    "check client_id and client_secret against the app's page in the Zoom Marketplace",
    True,
    codes=(4702, 4704),
    words=("invalid_client",),
    says=("Invalid client_id or client_secret",),
    phrases=("invalid client",),
)
INVALID_REQUEST = Cause(
    "invalid_request",
    "The account id is wrong or belongs to another account, or the app is not Server-to-Server.",
    "check account_id, and that the app is a Server-to-Server app of that account, and activated",
    True,
    codes=(4706,),
    words=("invalid_request",),
    says=("Bad Request",),
)
UNSUPPORTED_GRANT = Cause(
    "unsupported_grant_type",
    "The app's type does not offer this grant.",
    "the app's type does not offer this grant: set grant, and account_id for a Server-to-Server app",
    True,
    codes=(4705,),
    words=("unsupported_grant_type",),
    says=("unsupported grant type",),
    phrases=("unsupported grant",),
)
UNAUTHORIZED_CLIENT = Cause(
    "unauthorized_client",
    "The app may not use this grant.",
    "the app's type does not offer this grant: set grant, and account_id for a Server-to-Server app",
    True,
    words=("unauthorized_client",),
)
INVALID_GRANT = Cause(
    "invalid_grant",
    "The account id, the authorization code or the refresh token is not valid: wrong, used, or expired.",
    "check account_id, and that the app is activated; with authorization_code, log in anew"
    " (zoomrelay login --source NAME)",
    True,
    codes=(4733, 4734),
    words=("invalid_grant",),
    says=("Invalid authorization code",),
    phrases=("invalid authorization code",),
)
INVALID_SCOPE = Cause(
    "invalid_scope",
    "The app's scopes do not fit: they were changed since it was authorised, or are missing.",
    "look at the app's activation page in the Zoom Marketplace, it lists what is missing; with"
    " authorization_code, log in anew",
    True,
    codes=(4711,),
    words=("invalid_scope",),
    about_app=True,
)
INVALID_TOKEN = Cause(
    "invalid_token",
    "The token or code that was sent is empty or invalid, or the redirect address is not allowed: Zoom has"
    " one code for all of these.",
    "log in anew (zoomrelay login --source NAME), with a redirect address that the app's page lists",
    True,
    codes=(4700,),
    says=("Invalid token", "Invalid redirect"),
)
REDIRECT_MISMATCH = Cause(
    "redirect_mismatch",
    "The redirect address is not one that the app's page lists.",
    "enter the redirect address on the app's page just as it is used: https, or http://127.0.0.1 with PKCE",
    True,
    codes=(4709,),
    says=("Redirect URI mismatch",),
    phrases=("invalid redirect", "redirect uri mismatch"),
)
APP_DISABLED = Cause(
    "app_disabled",
    "The app is not activated, or was deactivated by its owner or by an admin.",
    "activate the app in the Zoom Marketplace, or ask the account's admin to allow it",
    True,
    codes=(4717, 4738),
    says=("The app has been disabled",),
    phrases=("app has been disabled",),
    about_app=True,
)
ACCESS_DENIED = Cause(
    "access_denied",
    "The account does not allow the app, or the person at the browser said no.",
    "activate the app in the Zoom Marketplace, or ask the account's admin to allow it",
    True,
    words=("access_denied",),
    about_app=True,
)
OWNER_MISSING = Cause(
    "owner_missing",
    "The user to whom the app's tokens belong has left the account; they end with that user.",
    "the app's owner was removed from the account: assign the app to a present user",
    True,
    codes=(4735,),
    says=("The owner of the token does not exist",),
    phrases=("owner of the token does not exist",),
    about_app=True,
)
TOKEN_REVOKED = Cause(
    "token_revoked",
    "The token was revoked, for instance because the app was authorised anew elsewhere.",
    "the app was authorised anew elsewhere: use a dedicated app for this relay",
    True,
    codes=(4741,),
    says=("token revoked",),
    phrases=("token revoked", "token has been revoked"),
    about_app=True,
)
MALFORMED_TOKEN = Cause(
    "malformed_token",
    "Zoom cannot read the token that it was given.",
    "forget the token and ask for a new one; if that repeats, something on the way changes requests",
    True,
    codes=(4724,),
)
TOKEN_INDEX = Cause(
    "token_index",
    "The number of tokens that may live side by side is limited for this app.",
    "use a dedicated app for this relay, or have Zoom's support raise the index tolerance of the app",
    True,
    codes=(4740,),
)
OAUTH_OTHER = Cause(
    "oauth_other",
    "A code that Zoom's table of OAuth errors lists, of which nothing more is known here.",
    "look the code up among Zoom's OAuth error codes, and at the app's activation page",
    True,
    codes=(4732, 4737),
)
LOGIN_NEEDED = Cause(
    "login_needed",
    "Nobody has logged in for this source yet, or the cache with its tokens is gone.",
    "run: zoomrelay login --source NAME",
    True,
)
REFRESH_LOST = Cause(
    "refresh_token_lost",
    "Zoom replaced the refresh token, and its answer was lost on the way or could not be stored.",
    "run: zoomrelay login --source NAME",
    True,
)
NO_REFRESH_TOKEN = Cause(
    "no_refresh_token",
    "Zoom's answer to the log-in held no refresh token.",
    "check that the app is a General app with the authorization code grant, and log in anew",
)
INTERRUPTED = Cause(
    "interrupted",
    "The last requests for a token were cut off by the end of the process, again and again.",
    "find out what ends the process; `zoomrelay token --forget` lets it ask at once",
)
CACHE_BUSY = Cause(
    "cache_busy",
    "Another process holds the token cache.",
    "wait; if it lasts, look for a process that hangs",
)
CACHE_UNWRITABLE = Cause(
    "cache_unwritable",
    "The token cache cannot be written, and a refresh token must not be used without it.",
    "see to the disk and the permissions of the state directory",
)
RATE_LIMITED = Cause(
    "rate_limited",
    "Too many requests, by this or another program with the same app or account.",
    "wait: the relay obeys Retry-After; if it repeats, find out who else uses the app; use a dedicated one",
    statuses=(429,),
)
HTTP_4XX = Cause(
    "http_4xx",
    "A refusal in JSON without any word or code that is known. The status stands in place of 4xx.",
    "check account_id, and that the app is a Server-to-Server app of that account, and activated",
    True,
)
HTTP_5XX = Cause(
    "http_5xx",
    "Zoom, or a gateway before it, has trouble. The status stands in place of 5xx.",
    "wait: it is tried again; an open socket is not touched by it. See status.zoom.us",
    words=("server_error", "temporarily_unavailable"),
    statuses=(408, 425),
)
NOT_JSON = Cause(
    "not_json",
    "The answer is not Zoom's: a sign-in page, a proxy's error page, or another server.",
    "check token_url, and whether a proxy or a sign-in page stands between",
)
REDIRECTED = Cause(
    "redirected",
    "The answer leads elsewhere; redirects are not followed, for they would carry the credentials along.",
    "check token_url, and whether a proxy or a sign-in page stands between",
)
NO_TOKEN = Cause(
    "no_token",
    "The answer is JSON without a token and without a refusal.",
    "check token_url, and whether a proxy or a sign-in page stands between",
)
ENDLESS = Cause(
    "oversize",
    "The answer has no end, so it is not Zoom's.",
    "check token_url, and whether a proxy or a sign-in page stands between",
)
TOKEN_URL = Cause(
    "token_url",
    "The address of the token endpoint is none.",
    "check token_url, which must begin with https://",
    True,
)

TOKEN = Section(
    "No token",
    "What the token endpoint answers. Numbers are Zoom's OAuth error codes; words are those of the field"
    " `error`. The log's line is `auth.credentials_refused` or `auth.endpoint_unavailable`, with the key as"
    " its reason.",
    (
        INVALID_CLIENT,
        INVALID_REQUEST,
        UNSUPPORTED_GRANT,
        UNAUTHORIZED_CLIENT,
        INVALID_GRANT,
        INVALID_SCOPE,
        INVALID_TOKEN,
        REDIRECT_MISMATCH,
        APP_DISABLED,
        ACCESS_DENIED,
        OWNER_MISSING,
        TOKEN_REVOKED,
        MALFORMED_TOKEN,
        TOKEN_INDEX,
        OAUTH_OTHER,
        LOGIN_NEEDED,
        REFRESH_LOST,
        NO_REFRESH_TOKEN,
        INTERRUPTED,
        CACHE_BUSY,
        CACHE_UNWRITABLE,
        RATE_LIMITED,
        HTTP_4XX,
        HTTP_5XX,
        NOT_JSON,
        REDIRECTED,
        NO_TOKEN,
        ENDLESS,
        TOKEN_URL,
    ),
)

# --- REST -------------------------------------------------------------------------------------------

TOKEN_INVALID = Cause(
    "token_invalid",
    "The token is expired or was made invalid; Zoom does not say which.",
    "ask for a new token; if fresh ones are refused too, the app was deactivated or its owner has left",
    codes=(124,),
    says=("Invalid access token.", "Access token is expired."),
    statuses=(401,),
)
TOKEN_KILLED = Cause(
    "token_killed",
    "A token was refused before its time, and a new one works: another program asked for one, and an app's"
    " new token can make older ones invalid.",
    "let one program own the tokens of an app: have scripts call zoomrelay token, or use an app for each",
)
QUERY_TOKEN = Cause(
    "query_token",
    "REST takes tokens in a header only, since 2023.",
    "send the token as `Authorization: Bearer …`",
    True,
    says=("not supported as query parameter string",),
    phrases=("query parameter",),
)
SCOPE_MISSING = Cause(
    "scope_missing",
    "The token is good, and the app lacks a scope for this call. The socket does not need it.",
    "add the scope that Zoom names to the app, where a program needs this call",
    True,
    codes=(4711,),
    says=("Invalid access token, does not contain scopes:[…]",),
    phrases=("does not contain scopes",),
    about_app=True,
)
WRONG_GRANT = Cause(
    "wrong_grant",
    "REST does not take a token of this grant: one by client_credentials speaks for no user. The socket may"
    " accept it all the same.",
    'set grant = "account_credentials" and account_id where programs use the token for REST',
    True,
    codes=(200,),
    says=("Invalid api key or secret.",),
    phrases=("invalid api key",),
)
PAID_ACCOUNT = Cause(
    "paid_account",
    "The call needs a paid account. It has the same code as a token of the wrong grant.",
    "nothing, for the socket; for programs that need the call, another licence",
    True,
    says=("Only available for paid account",),
    phrases=("paid account",),
)
REST_LIMITED = Cause(
    "rest_limited",
    "Too many calls, per second or per day, of all programs of the account together.",
    "wait as long as Retry-After says; it does not concern the socket",
    codes=(429, 4001),
    statuses=(429,),
)
REST_TROUBLE = Cause(
    "rest_trouble",
    "Zoom's REST side has trouble, or something else answers in its place.",
    "wait, and check api_url; it does not concern the socket",
)
APP_REFUSED = Cause(
    "app_refused",
    "Zoom issues tokens, and REST refuses even fresh ones.",
    "look at the app in the Zoom Marketplace: it is being deactivated, or its owner has lost the role",
    True,
    about_app=True,
)
ACCOUNT_OTHER = Cause(
    "account_other",
    "The token speaks for another account than account_id names.",
    "check account_id, and on which account's page the app was made",
    about_app=True,
)
NO_SCOPES = Cause(
    "no_scopes",
    "The token carries no scopes, or not those that Zoom's guides name for the socket.",
    "add the scopes of the chosen events, and marketplace:write:websocket_connection where it is offered;"
    " after activation they may take some seconds to arrive in tokens",
    about_app=True,
)

REST = Section(
    "The token, tried on REST",
    "What `GET /users/me` answers. Numbers are those of the field `code`.",
    (
        TOKEN_INVALID,
        TOKEN_KILLED,
        QUERY_TOKEN,
        SCOPE_MISSING,
        WRONG_GRANT,
        PAID_ACCOUNT,
        REST_LIMITED,
        REST_TROUBLE,
        APP_REFUSED,
        ACCOUNT_OTHER,
        NO_SCOPES,
    ),
)

# --- the upgrade ------------------------------------------------------------------------------------

NOT_FOUND = Cause(
    "not_found",
    "There is no subscription of this id, or none in the address.",
    "check the subscription's id: copy it anew from the app's event subscription page, which must be of type"
    " WebSocket",
    True,
    statuses=(400, 404),
)
UPGRADE_TOKEN = Cause(
    "refused_token",
    "The token is refused before the socket opens.",
    "Zoom does not take this app's token for this subscription: check that the subscription belongs to the"
    " app, and that the app is activated and has its WebSocket scopes",
    statuses=(401, 403),
)
UPGRADE_LIMITED = Cause(
    "upgrade_limited",
    "Too many connections in a short time, or a server that is not ready.",
    "wait: the relay obeys Retry-After; if it repeats, look for other programs with this subscription",
    statuses=(408, 425, 429),
)
UPGRADE_REFUSED = Cause(
    "upgrade_refused",
    "What answers does not open a WebSocket: a proxy, a gateway, or another server; or Zoom has trouble.",
    "check ws_url, and whether a proxy on the way lets WebSockets pass",
)
WS_URL = Cause("url", "The address of the socket is none.", "check ws_url and subscriptions", True)

UPGRADE = Section(
    "Token, but no socket",
    "What the upgrade is answered with; numbers are HTTP statuses. The log's line is"
    " `session.attempt_failed` with `cause=dial_failed`, for 401 and 403 with `cause=refused_token`.",
    (NOT_FOUND, UPGRADE_TOKEN, UPGRADE_LIMITED, UPGRADE_REFUSED, WS_URL),
)

# --- acceptance -------------------------------------------------------------------------------------

EMPTY_TOKEN = Cause(
    "empty_token",
    "Zoom saw no token.",
    "Zoom saw no token in the socket's address: something on the way strips the query from it"
    " (look at the proxy), or ws_url does not lead to Zoom directly",
    says=("token is empty",),
)
REFUSED_TOKEN = Cause(
    "refused_token",
    "Zoom refuses the token: expired, made invalid by another program, of a user, or of an app to which the"
    " subscription does not belong.",
    "Zoom does not take this app's token for this subscription: check that the subscription belongs to the"
    " app, and that the app is activated and has its WebSocket scopes",
    says=("Invalid Token", "Token is invalid", "invalid_token"),
)
FRESH_REFUSED = Cause(
    "fresh_tokens_refused",
    "Zoom refuses fresh tokens of every grant.",
    "Zoom's socket refuses fresh tokens of this app: check that the subscription belongs to it, that it is"
    " activated and has its WebSocket scopes, and that no other program uses the same app",
    True,
)
REFUSED = Cause(
    "refused",
    "Zoom refuses for another reason; most likely the subscription does not exist or is no WebSocket.",
    "check that the subscription exists, is of type WebSocket, and that the app is activated",
    True,
)
_LOOK_FOR = (
    ", and Zoom serves one at a time. Look for a second relay, an old container, a colleague's laptop, a"
    " script with the same subscription id; stop it, or give each a subscription of its own. A reload (HUP)"
    " or a restart tries at once"
)
DISPLACED = Cause(
    "displaced",
    "Another connection took the subscription, or holds it.",
    "another program uses this subscription" + _LOOK_FOR,
    says=("Connected in another place",),
)
CONTESTED = Cause(
    "contested",
    "Zoom closes again and again soon after it accepted.",
    "Zoom closes it again and again soon after it was accepted, so most likely another program uses this"
    " subscription" + _LOOK_FOR,
)
NOT_ACCEPTED = Cause(
    "not_accepted",
    "The socket is open, and Zoom neither accepts nor refuses.",
    "check ws_url, and whether a proxy on the way lets WebSockets pass; at Zoom it passes by itself",
)

ACCEPTANCE = Section(
    "A socket, but not accepted",
    "What the first frame says (`build_connection` with `success: false`), whose texts Zoom changed twice,"
    " or what comes in its place. The log's line is `session.attempt_failed`.",
    (EMPTY_TOKEN, REFUSED_TOKEN, FRESH_REFUSED, REFUSED, DISPLACED, CONTESTED, NOT_ACCEPTED),
)

# --- the end of a socket ----------------------------------------------------------------------------

CLOSED = Cause(
    "closed",
    'Zoom closed the socket. The code tells little: 1000 "Bye" comes after refusals and displacement too, and'
    " the others are those that anybody may send.",
    "nothing, where it is rare: the relay comes back at once, and zoomrelay gaps lists it; where it is"
    " frequent, look for another program with this subscription",
    codes=(1000, 1001, 1008, 1011, 4001, 4003),
    says=("Bye",),
)
RESET = Cause(
    "reset",
    "The connection broke without a closing frame.",
    "look at firewalls and their idle limits on the way; the relay sends a heartbeat every heartbeat_seconds",
    codes=(1006,),
)
SILENT = Cause(
    "silent",
    "Nothing comes any more, not even answers to heartbeats, while TCP stays up.",
    "look at firewalls and their idle limits on the way; the relay sends a heartbeat every heartbeat_seconds",
)
OVERSIZE = Cause(
    "oversize", "A message is larger than max_message_bytes.", "raise max_message_bytes", codes=(1009,)
)
PROTOCOL = Cause(
    "protocol",
    "What came is no WebSocket.",
    "something on the way changes what is sent: look at the proxy",
    codes=(1002, 1003, 1007),
)
DEAF = Cause(
    "deaf",
    "The subscription is accepted, and misses events that others of its source bring.",
    "save the subscription again in the app's event subscription page (and authorise the app anew), or"
    " deactivate and activate the app; check that the subscription has the same events as its twins",
)
QUIET = Cause(
    "quiet",
    "The subscription is accepted, and brings no event for quiet_after_seconds.",
    "check that the subscription has events and the app is activated and authorised; saving the subscription"
    " again is the known cure",
)
SIGNATURES = Cause(
    "signatures",
    "Signatures of events do not fit.",
    "check secret_token against the Secret Token on the app's Feature page",
)

ENDING = Section(
    "Accepted, and then",
    "How a socket ends, or what is wrong with one that does not. Numbers are close codes. The log's line is"
    " `session.closed`.",
    (CLOSED, RESET, SILENT, OVERSIZE, PROTOCOL, DEAF, QUIET, SIGNATURES),
)

# --- this machine -----------------------------------------------------------------------------------

CONFIGURATION = Cause(
    "configuration", "The configuration cannot be used.", "zoomrelay check shows what is wrong", True
)
WEBHOOK_ADDRESS = Cause(
    "webhook_address",
    "The address of a webhook, or its certificate, cannot be used.",
    "stop what uses the address, or choose another; the files of certificate and key must be PEM",
    True,
)
SECRET_OPEN = Cause(
    "secret_open",
    "Everybody on this machine can read a secret.",
    "chmod o= FILE, and give the file to the relay's user or group",
    True,
)
STATE_DIR = Cause(
    "state_dir",
    "The state directory cannot be used: it is no directory, not ours to write, or on a network file system.",
    "set state_dir to a directory on a local disk that the relay's user may write",
    True,
)
STATE_OPEN = Cause(
    "state_open",
    "Others may look into the state directory, where events and tokens lie.",
    "chmod -R go= the directory",
    True,
)
STATE_FOREIGN = Cause(
    "state_foreign",
    "The state directory belongs to another user.",
    "run this as the user that the relay runs as, or as root",
)
DISK_FULL = Cause(
    "disk_full", "The disk is full or nearly so.", "make room, or set state_dir or the sink's path elsewhere"
)
DISK_SMALL = Cause(
    "disk_small",
    "The disk has less room than the spool may take.",
    "make room, or set spool.max_bytes to what the disk can hold",
)
RELAY_TROUBLE = Cause(
    "relay_trouble",
    "The relay that runs here is not ready.",
    "do what stands with the subscription or the spool below; zoomrelay status shows it all",
)
RELAY_MUTE = Cause(
    "relay_mute",
    "A process holds the state directory and does not answer.",
    "look at its log; if it hangs, restart it. If it belongs to another user, run this as that user or root",
)
SPOOL_DAMAGED = Cause(
    "spool_damaged",
    "The spool's file is damaged.",
    "start the relay: it sets the file aside and recovers what can be read. Then look at the disk",
)
SPOOL_FOREIGN = Cause(
    "spool_foreign",
    "The spool's file was written by a newer zoomrelay or another program.",
    "install the newer version again, or set another state_dir",
    True,
)

MACHINE = Section(
    "This machine",
    "What `zoomrelay doctor` looks at before it goes out.",
    (
        CONFIGURATION,
        WEBHOOK_ADDRESS,
        SECRET_OPEN,
        STATE_DIR,
        STATE_OPEN,
        STATE_FOREIGN,
        DISK_FULL,
        DISK_SMALL,
        RELAY_TROUBLE,
        RELAY_MUTE,
        SPOOL_DAMAGED,
        SPOOL_FOREIGN,
    ),
)

# --- receivers --------------------------------------------------------------------------------------

SINK_REJECTED = Cause(
    "sink_rejected",
    "The receiver does not want the test event.",
    "look at the receiver's log; it may not know zoomrelay.test, or want a format or a key of its own",
    True,
)
SINK_UNAVAILABLE = Cause(
    "sink_unavailable",
    "The receiver takes nothing now.",
    "look at the receiver; events wait in the spool until it takes them",
)
SINK_PATH = Cause(
    "sink_path",
    "The file cannot be written by the user that asks.",
    "make its directory, and give it to the relay's user; then run this as that user",
    True,
)

RECEIVER = Section(
    "Receivers",
    "What is wrong with a sink, beyond the way to it.",
    (SINK_REJECTED, SINK_UNAVAILABLE, SINK_PATH),
)

SECTIONS: Sequence[Section] = (WAY, TOKEN, REST, UPGRADE, ACCEPTANCE, ENDING, MACHINE, RECEIVER)
"""In the order in which one looks."""
