# Opens as many connections as there may be to each of the web servers in FORAKER_URLS at once, of one kind after the other.
import os, resource, selectors, socket, time

hosts = [line.strip()[len('http://'):].rstrip('/') for line in open(os.environ['FORAKER_URLS'])]
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
# Connections to each, and for how long they are there, in seconds.
EACH, SECONDS = 900, 5


def head(path, more='', method='GET'):
    return f'{method} {path} HTTP/1.1\r\nHost: vm\r\n{more}\r\n'.encode()


# What each of them sends, and whether it reads what comes.
KINDS = {
    'documents': (head('/100k') * 8, True),
    'heads that do not end': (b'GET /100b HT', True),
    'large heads that do not end': (head('/', f'Cookie: {"c" * 15000}\r\n')[:-4], True),
    'bodies that do not end': (head('/', 'Content-Length: 4096\r\n', 'POST') + b'x' * 4000, True),
    'bodies in chunks': (head('/', 'Transfer-Encoding: chunked\r\n', 'POST') + b'5\r\nhello\r\n' * 600, True),
    'who does not read': (head('/1000k') * 4, False),
    'many at once': (head('/100b') * 100 + head('/') * 30 + head('/status') * 30 + head('/2258b') * 40, True),
    'parts': (head('/1000k', 'Range: bytes=1000-30000\r\n') * 20, True),
    'what is refused': (head('/', 'Content-Length: 900000\r\n', 'PUT') + b'x' * 200000, True),
}


def load(text, reads):
    poll, received, all_sockets = selectors.DefaultSelector(), 0, []

    def turn(patience):
        nonlocal received
        for key, events in poll.select(patience):
            connection, sent = key.fileobj, key.data
            try:
                if events & selectors.EVENT_READ:
                    got = connection.recv(65536)
                    received += len(got)
                    if not got:
                        raise OSError
                if events & selectors.EVENT_WRITE:
                    sent[0] += connection.send(text[sent[0]:sent[0] + 16384])
                    if sent[0] == len(text):
                        poll.unregister(connection)
                        if reads:
                            poll.register(connection, selectors.EVENT_READ, sent)
            except BlockingIOError:
                pass
            except OSError:
                poll.unregister(connection)
                connection.close()

    end = time.time() + SECONDS
    for number in range(EACH):
        for host in hosts:
            connection = socket.socket()
            connection.setblocking(False)
            connection.connect_ex((host, 80))
            all_sockets.append(connection)
            poll.register(connection, selectors.EVENT_WRITE | (selectors.EVENT_READ if reads else 0), [0])
        if number % 10 == 9:
            turn(0)
    while time.time() < end:
        turn(0.2)
    for connection in all_sockets:
        connection.close()
    return received


for kind, (text, reads) in KINDS.items():
    print(f'{kind}: {load(text, reads)} bytes', flush=True)
