"""What to say of a request that got no complete response."""

import socket
import ssl
from http.client import IncompleteRead, RemoteDisconnected

from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    SSLError,
)


def explain(error: HTTPError, server: str) -> str:
    """A message without names of classes.

    Args:
        error: what urllib3 raised.
        server: host and port of the request.
    """
    cause: BaseException = error
    if isinstance(error, ProxyError):
        cause, server = error.original_error, "the proxy"
    if isinstance(cause, NewConnectionError):
        host = f"{cause.conn.host}:{cause.conn.port}"
        where = f"the proxy {host}" if isinstance(error, ProxyError) else host
        reason = cause.__cause__
        if isinstance(reason, socket.gaierror):
            where = where.rpartition(":")[0]
        return f"can't connect to {where}: {_text(reason or cause)}"
    if isinstance(cause, ConnectTimeoutError):
        return f"can't connect to {server}: it took too long (EMAIL_ARCHIVE_CONNECT_TIMEOUT)"
    if isinstance(cause, SSLError):
        return f"can't connect to {server}: {_tls(cause)}"
    if isinstance(error, ProxyError):
        return f"can't connect through the proxy: {_text(cause)}"
    last = error.args[-1] if isinstance(error, ProtocolError) else error
    return f"no complete response: {_text(last)}"


def _tls(error: SSLError) -> str:
    reason = error.args[0] if error.args else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {reason.verify_message}"
    if isinstance(reason, ssl.SSLError) and reason.reason:
        return f"TLS failed: {reason.reason.replace('_', ' ').lower()}"
    return f"TLS failed: {reason}"


def _text(error: object) -> str:
    if isinstance(error, RemoteDisconnected | IncompleteRead):
        return "the server closed the connection"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text[:1].lower() + text[1:]
