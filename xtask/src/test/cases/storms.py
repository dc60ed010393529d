# Against each of the web servers in FORAKER_URLS whose VMs come first, on a machine all of whose memory others hold: all at once, what takes memory of who receives it.
import os, random, resource, socket, struct, sys, time, urllib.request

urls = open(os.environ['FORAKER_URLS']).read().split()
hosts = [url[len('http://'):].rstrip('/') for url in urls][:int(sys.argv[1])]
resource.setrlimit(resource.RLIMIT_NOFILE, (16384, 16384))
HEADS, SECONDS = 900, 8


def checksum(data):
    total = sum(struct.unpack(f'!{len(data) // 2}H', data))
    return ~(total + (total >> 16)) & 0xffff


def ipv6(host):
    # The link-local address that its MAC makes, which the host knows from asking it.
    line = next(line for line in open('/proc/net/arp') if line.split()[0] == host)
    mac = [int(byte, 16) for byte in line.split()[3].split(':')]
    return f'fe80::{mac[0] ^ 2:02x}{mac[1]:02x}:{mac[2]:02x}ff:fe{mac[3]:02x}:{mac[4]:02x}{mac[5]:02x}'


def fragment(source, host, number, offset, more, size):
    header = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20 + size, number, offset // 8 | more << 13, 64, random.choice([1, 6, 17]), 0,
                         source, socket.inet_aton(host))
    header = header[:10] + struct.pack('!H', checksum(header)) + header[12:]
    return header + random.randbytes(size)


def connect(family, address):
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.setblocking(False)
    connection.connect_ex(address)
    return connection


for host in hosts:
    urllib.request.urlopen(f'http://{host}/100b', timeout=20).read()
sockets, lost = [], 0
datagrams = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(16)]
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
index = socket.if_nametoindex('tap0')
sent = {'heads': 0, 'heads over IPv6': 0, 'datagrams': 0, 'fragments': 0}
end, number = time.time() + SECONDS, 0
while time.time() < end:
    for host in hosts:
        if number < HEADS:
            sockets.append(connect(socket.AF_INET, (host, 80)))
        if number < HEADS // 3:
            sockets.append(connect(socket.AF_INET6, (ipv6(host), 80, 0, index)))
        for _ in range(4):
            try:
                random.choice(datagrams).sendto(random.randbytes(random.randrange(1472)), (host, random.choice([7, 53, 68, 80, 9999])))
                sent['datagrams'] += 1
                source = socket.inet_aton(f'10.0.{random.randrange(3, 200)}.{random.randrange(1, 255)}')
                raw.sendto(fragment(source, host, random.randrange(65536), random.choice([0, 0, 1480, 2960]), random.randrange(2), 1480), (host, 0))
                sent['fragments'] += 1
            except OSError:
                lost += 1
    if number < HEADS or number % 50 == 0:
        for connection in sockets[-2 * len(hosts) * (1 if number < HEADS else HEADS):]:
            try:
                connection.send(b'GET /100b HT' if number < HEADS else b'x')
                sent['heads over IPv6' if connection.family == socket.AF_INET6 else 'heads'] += 1
            except OSError:
                pass
    number += 1
print(sent, 'not sent:', lost, flush=True)
assert all(count > 10000 for count in sent.values())
for connection in sockets:
    connection.close()
