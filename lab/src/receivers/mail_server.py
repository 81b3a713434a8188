# A mail server that keeps letters in a Maildir, but for those of gone@…, whom it doesn't know, and busy@…: ADDRESS PORT MAILDIR plain|starttls|smtps [CERTIFICATE KEY] [USER PASSWORD]
import asyncio, ssl, sys
from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import SMTP, AuthResult

address, port, maildir, mode, *rest = sys.argv[1:]
context = None
if mode != "plain":
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(rest.pop(0), rest.pop(0))
login = tuple(word.encode() for word in rest)


def authenticate(server, session, envelope, mechanism, data):
    return AuthResult(success=(data.login, data.password) == login, handled=False)


class Known(Mailbox):
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("gone@"):
            return "550 5.1.1 no such mailbox"
        if address.startswith("busy@"):
            return "450 4.2.1 come back later"
        envelope.rcpt_tos.append(address)
        return "250 OK"


def make():
    return SMTP(
        Known(maildir),
        tls_context=context if mode == "starttls" else None,
        require_starttls=mode == "starttls",
        authenticator=authenticate if login else None,
        auth_required=bool(login),
        auth_require_tls=mode == "starttls",
        hostname="mail.lab",
    )


async def serve():
    loop = asyncio.get_running_loop()
    tls = context if mode == "smtps" else None
    server = await loop.create_server(make, address, int(port), ssl=tls)
    await server.serve_forever()


asyncio.run(serve())
