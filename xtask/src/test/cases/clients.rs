//! Clients, scanners and routers that nobody here wrote, on a tap: Linux' TCP/IP, and the programs on top of it.

use super::command::{output, said};
use super::ensure;
use crate::error::{Result, fail};
use crate::test::Case;
use crate::test::lab::Lab;

/// Those that need no more than a host that runs machine tests has. They take root, for the tap.
pub const CASES: &[Case] = &[
    Case {
        name: "clients: narrow link",
        asserts: "a Linux router with a link of 1,280 bytes between client and VM is believed, and all documents arrive",
        run: narrow_link,
    },
    Case {
        name: "clients: the end",
        asserts: "idle, silent and slow clients read what there is for them, and then an end and no reset",
        run: the_end,
    },
    Case {
        name: "clients: idle ones",
        asserts: "twelve hundred clients that keep their connections and say nothing keep nobody out",
        run: idle,
    },
];

/// Those that need programs which are only there where somebody wants them.
pub const TOOL_CASES: &[Case] = &[
    Case {
        name: "clients: SYN flood",
        asserts: "beside 50,000 SYNs from everywhere, as fast as the host makes them, no request of ab is lost",
        run: flood,
    },
    Case {
        name: "clients: slow attacks",
        asserts: "500 clients of slowhttptest that send heads or bodies bit by bit, or hardly read, keep nobody out",
        run: slow_attacks,
    },
    Case {
        name: "clients: refusals",
        asserts: "wget, urllib, http.client and curl read a refusal although they have more to say, within two seconds",
        run: refusals,
    },
    Case {
        name: "clients: more than memory carries",
        asserts: "four servers on a machine that cannot hold a thousand connections of each, each with nine hundred at once that read, or do not, and send heads and bodies that do not end: none ends, and all answer afterwards",
        run: crowded,
    },
    Case {
        name: "clients: storms on a full machine",
        asserts: "four servers beside guests that hold all other memory, each with nine hundred heads that do not end, three hundred over IPv6, and floods of datagrams and of fragments at once: none ends, and all answer afterwards",
        run: storms,
    },
    Case { name: "clients: load", asserts: "siege and httperf lose no request, connections kept or not", run: load },
];

/// What [`TOOL_CASES`] start, and Debian's packages of it.
pub const TOOLS: &[(&str, &str)] = &[
    ("ab", "apache2-utils"),
    ("hping3", "hping3"),
    ("httperf", "httperf"),
    ("python3", "python3"),
    ("siege", "siege"),
    ("slowhttptest", "slowhttptest"),
    ("wget", "wget"),
];

/// Serves with one VM on a tap, and runs `script` there, which ends at its first mistake. What all say.
fn run(script: &str) -> Result<String> {
    let command = format!("set -e\nulimit -n 4096\nurl=${{FORAKER_URL_1%/}}\n{script}");
    let output = output(&["--headless", "--vms", "1", "--net", "tap", "--exec", &command])?;
    let text = said(&output);
    ensure(output.status.success(), || format!("it ended with {}:\n{text}", output.status))?;
    Ok(text)
}

/// Four servers in less memory than a thousand connections to each take.
fn crowded(_: &Lab) -> Result<()> {
    let command = format!("set -e\npython3 - <<'END'\n{}\nEND\nsleep 5\n{ANSWERS}", include_str!("loads.py"));
    four_answer(&output(&["--headless", "--vms", "4", "--memory", "48", "--net", "tap", "--exec", &command])?)
}

/// Four servers beside seven guests that could have more memory than there is, and take what they get.
fn storms(_: &Lab) -> Result<()> {
    // The second time they get what the others used to serve the first request.
    let hoard = "for url in $(tail -n +5 $FORAKER_URLS) $(tail -n +5 $FORAKER_URLS); do
        curl -fsS --max-time 20 $url/crime/memory-hoard
    done";
    let storms = include_str!("storms.py");
    let command = format!("set -e\n{hoard}\npython3 - 4 <<'END'\n{storms}\nEND\nsleep 5\n{ANSWERS}");
    let vms = "vms=httpd*4,hostile*7";
    four_answer(&output(&["--headless", "--boot", vms, "--memory", "72", "--net", "tap", "--exec", &command])?)
}

/// Asks the first four servers how they are, and for a document.
const ANSWERS: &str = "for url in $(head -n 4 $FORAKER_URLS); do
    curl -fsS --retry 3 --retry-all-errors --max-time 20 $url/status
    curl -fsS --max-time 20 $url/100k | wc -c
done";

/// Fails unless four servers have answered to [`ANSWERS`] that never ended, and nobody else has.
fn four_answer(output: &std::process::Output) -> Result<()> {
    let text = said(output);
    ensure(output.status.success(), || format!("it ended with {}:\n{text}", output.status))?;
    ensure(!text.contains(" ended: "), || format!("somebody has ended:\n{text}"))?;
    let whole = text.lines().filter(|line| line.trim() == "102400").count();
    let first = text.lines().filter(|line| line.trim() == "incarnation: 1").count();
    ensure((whole, first) == (4, 4), || format!("{whole} of 4 answer, of which {first} never ended:\n{text}"))
}

/// Fails unless each of these is in what was said.
fn all_in(text: &str, lines: &[&str]) -> Result<()> {
    match lines.iter().find(|line| !text.contains(**line)) {
        Some(line) => fail!("\"{line}\" is not in:\n{text}"),
        None => Ok(()),
    }
}

/// Two more namespaces, which go when their processes end: the client's, and one beyond the narrow link. In that link's own host the
/// client's TCP would see its size.
fn narrow_link(_: &Lab) -> Result<()> {
    let text = run(r#"
        unshare -n sleep 300 & middle=$!
        unshare -n sleep 300 & far=$!
        trap 'kill $middle $far' EXIT
        in_middle() { nsenter -t $middle -n "$@"; }
        in_far() { nsenter -t $far -n "$@"; }
        own=$(readlink /proc/self/ns/net)
        for process in $middle $far; do
            while [ "$(readlink /proc/$process/ns/net)" = "$own" ]; do sleep 0.05; done
        done
        ip link add narrow mtu 1280 type veth peer name narrow netns $middle
        in_middle ip link add wide type veth peer name wide netns $far
        ip address add 192.168.7.1/24 dev narrow
        ip link set narrow up
        in_middle ip address add 192.168.7.2/24 dev narrow
        in_middle ip link set narrow mtu 1280 up
        in_middle ip address add 192.168.8.1/24 dev wide
        in_middle ip link set wide up
        in_far ip address add 192.168.8.2/24 dev wide
        in_far ip link set wide up
        in_far ip route add default via 192.168.8.1
        in_middle ip route add default via 192.168.7.1
        ip route add 192.168.8.0/24 via 192.168.7.2
        echo 1 > /proc/sys/net/ipv4/ip_forward
        in_middle sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
        # Whoever has to find the size out for want of a message takes three seconds.
        for document in 2258b 100k 100k 100b; do
            in_far curl -fsS --max-time 2.5 -o /dev/null -w "$document: %{size_download} in %{time_total}\n" $url/$document
        done
        # The kernel's own count of messages that something was unreachable.
        grep -A1 IcmpMsg /proc/net/snmp"#)?;
    all_in(&text, &["2258b: 2258 in", "100k: 102400 in", "100b: 100 in"])?;
    ensure(text.contains("OutType3"), || format!("the router did not have to complain:\n{text}"))
}

fn the_end(_: &Lab) -> Result<()> {
    // `cat` fails where a connection ends with a reset.
    let text = run(r#"
        host=${url#http://}
        get='GET /100b HTTP/1.1\r\nHost: vm\r\n\r\n'
        post='POST / HTTP/1.1\r\nHost: vm\r\nContent-Length: 100\r\n\r\n'
        silent() { exec 3<>/dev/tcp/$host/80; cat <&3 | head -1; test ${PIPESTATUS[0]} = 0; }
        idle() { exec 3<>/dev/tcp/$host/80; printf "$get" >&3; cat <&3 | head -1; test ${PIPESTATUS[0]} = 0; }
        slow() {
            exec 3<>/dev/tcp/$host/80
            printf "$post" >&3
            (trap '' PIPE; for i in $(seq 14); do printf x >&3; sleep 1; done) &
            cat <&3 | head -1; test ${PIPESTATUS[0]} = 0
            wait
        }
        silent > silent.$$ & a=$!
        idle > idle.$$ & b=$!
        slow > slow.$$ & c=$!
        trap 'rm -f silent.$$ idle.$$ slow.$$' EXIT
        wait $a && echo "silent: $(cat silent.$$)"
        wait $b && echo "idle: $(cat idle.$$)"
        wait $c && echo "slow: $(cat slow.$$)""#)?;
    all_in(
        &text,
        &["silent: HTTP/1.1 408 Request Timeout", "idle: HTTP/1.1 200 OK", "slow: HTTP/1.1 408 Request Timeout"],
    )
}

fn idle(_: &Lab) -> Result<()> {
    // More than a VM has places. Each has asked once, and stays; the first ones have to make room for the last ones.
    let text = run(r#"
        host=${url#http://}
        for i in $(seq 1200); do
            exec {fd}<>/dev/tcp/$host/80
            printf 'GET /100b HTTP/1.1\r\nHost: vm\r\n\r\n' >&$fd
        done
        for i in $(seq 20); do
            curl -fsS --max-time 5 -o /dev/null $url/100k
        done
        echo "20 of 20 were served"
        ip address add 10.0.2.3/8 dev tap0
        curl -fsS --interface 10.0.2.3 --max-time 5 $url/status"#)?;
    all_in(&text, &["20 of 20 were served", "net_refused_frames: "])
}

fn flood(_: &Lab) -> Result<()> {
    let text = run(r#"
        count=/sys/class/net/tap0/statistics/tx_packets
        for source in 1 2; do hping3 -q -S -p 80 --rand-source -i u20 ${url#http://} > hping.$$.$source 2>&1 & done
        trap 'rm -f hping.$$.*' EXIT
        began=$(date +%s%N)
        for round in $(seq 60); do
            ab -q -s 60 -c 50 -n 2000 $url/100b | grep -E '^(Failed|Non-2xx|Complete)'
            # Six frames for each of its connections at most.
            test $(($(cat $count) - round * 12000)) -lt 50000 || break
        done
        syns=$(($(cat $count) - round * 12000))
        kill $(jobs -p)
        test $syns -ge 50000
        echo "$((syns * 1000000000 / ($(date +%s%N) - began))) SYNs a second"
        curl -fsS --max-time 20 $url/status"#)?;
    let failed = text.lines().find(|line| {
        let figure = line.split_whitespace().last();
        line.contains("Non-2xx") || line.contains("Failed requests:") && figure != Some("0")
    });
    ensure(failed.is_none(), || format!("ab says {failed:?}:\n{text}"))?;
    all_in(&text, &["Complete requests:      2000", " SYNs a second"])
}

fn slow_attacks(_: &Lab) -> Result<()> {
    let text = run(r#"
        attack() { slowhttptest -c 500 -r 250 -l 15 -p 5 -u "$@" 2>&1 | tail -20 | tr '\r' '\n'; }
        attack $url/ -H -i 5 -x 24 & a=$!
        sleep 4
        for i in $(seq 10); do curl -fsS --max-time 5 -o /dev/null $url/100k; done
        echo "served beside slow heads"
        wait $a
        attack $url/ -B -i 5 -x 24 & a=$!
        sleep 4
        for i in $(seq 10); do curl -fsS --max-time 5 -o /dev/null $url/100k; done
        echo "served beside slow bodies"
        wait $a
        attack $url/100k -X -n 5 -w 10 -y 20 -z 5 -k 3 & a=$!
        sleep 4
        for i in $(seq 10); do curl -fsS --max-time 5 -o /dev/null $url/100k; done
        echo "served beside slow readers"
        wait $a"#)?;
    all_in(&text, &["served beside slow heads", "served beside slow bodies", "served beside slow readers"])
}

fn refusals(_: &Lab) -> Result<()> {
    let text = run(r#"
        body=body.$$
        trap 'rm -f $body' EXIT
        head -c 300000 /dev/zero > $body
        timeout 5 wget -nv -O - --tries=1 --post-file=$body $url/ 2>&1 | sed 's/^/wget: /' || true
        timeout 5 curl -sS -o /dev/null -w 'curl: %{http_code}\n' --data-binary @$body $url/
        timeout 5 curl -sS -o /dev/null -w 'curl in chunks: %{http_code}\n' -H 'Transfer-Encoding: chunked' -H 'Expect:' --data-binary @$body $url/
        timeout 10 python3 - $url <<'END'
import http.client, sys, urllib.error, urllib.request
url = sys.argv[1]
try:
    urllib.request.urlopen(url + "/", data=b"x" * 300000, timeout=2)
except urllib.error.HTTPError as error:
    print("urllib:", error.code)
connection = http.client.HTTPConnection(url[7:], timeout=2)
connection.request("POST", "/", body=(b"x" * 5000 for _ in range(60)), headers={"Transfer-Encoding": "chunked"}, encode_chunked=True)
print("http.client in chunks:", connection.getresponse().status)
END"#)?;
    ensure(text.contains("ERROR 413"), || format!("wget was not refused:\n{text}"))?;
    all_in(&text, &["curl: 413", "curl in chunks: 413", "urllib: 413", "http.client in chunks: 413"])
}

fn load(_: &Lab) -> Result<()> {
    let text = run(r#"
        home=$(mktemp -d)
        trap 'rm -r $home' EXIT
        HOME=$home siege -q -b -c 60 -t 4S $url/2258b 2>&1
        httperf --hog --server ${url#http://} --uri /100b --num-conns 1500 --rate 300 --timeout 20
        httperf --hog --server ${url#http://} --uri /2258b --num-conns 100 --num-calls 20 --rate 50 --timeout 20"#)?;
    let totals: Vec<&str> = text.lines().filter(|line| line.starts_with("Errors: total ")).collect();
    ensure(totals.len() == 2 && totals.iter().all(|line| line.starts_with("Errors: total 0 ")), || text.clone())?;
    let lost =
        text.lines().find(|line| line.contains("\"failed_transactions\":")).map(|line| line.replace([' ', '\t'], ""));
    ensure(lost.as_deref() == Some("\"failed_transactions\":0,"), || format!("siege says {lost:?}:\n{text}"))
}
