use super::*;

/// A UART whose peer takes a byte after so many looks; 0: none ever.
#[derive(Default)]
struct Peer {
    every: u32,
    looks: u32,
    taken: Vec<u8>,
    absent: bool,
}

impl Uart for Peer {
    fn status(&mut self) -> u8 {
        self.looks += 1;
        match (self.absent, self.every) {
            (true, _) => 0xff,
            (_, 0) => 0,
            (_, every) if self.looks.is_multiple_of(every) => TRANSMITTER_EMPTY | ALL_SENT,
            _ => 0,
        }
    }

    fn put(&mut self, byte: u8) {
        self.taken.push(byte);
    }
}

fn open(peer: Peer) -> Serial<Peer> {
    let mut serial = Serial::new(peer);
    serial.open();
    serial.uart.looks = 0;
    serial
}

fn send(serial: &mut Serial<Peer>, lines: usize) {
    (0..lines).for_each(|_| b"a line\n".iter().for_each(|&byte| serial.send(byte)));
}

#[test]
fn a_peer_that_reads_gets_everything() {
    // On a machine, and in an emulator.
    for every in [90, 10_000] {
        let mut serial = open(Peer { every, ..Peer::default() });
        send(&mut serial, 1000);
        serial.drain();
        assert_eq!(serial.uart.taken, b"a line\n".repeat(1000));
        assert_eq!(serial.take_lost(), 0);
    }
}

#[test]
fn a_peer_that_does_not_read_is_waited_for_once() {
    let mut serial = open(Peer::default());
    send(&mut serial, 1000);
    serial.drain();
    assert!(serial.uart.looks <= PATIENCE + 7001, "{}", serial.uart.looks);
    assert_eq!((serial.uart.taken.len(), serial.take_lost()), (0, 0), "it is said when somebody can read it");
    serial.uart.every = 1;
    assert_eq!(serial.look(0, 1000), Line::Ready);
    assert_eq!(serial.take_lost(), 1000);
    send(&mut serial, 1);
    assert_eq!((serial.take_lost(), serial.uart.taken.as_slice()), (0, &b"a line\n"[..]));
}

#[test]
fn a_peer_that_takes_its_time_costs_no_more_in_all() {
    let mut serial = open(Peer { every: PATIENCE - 1, ..Peer::default() });
    send(&mut serial, 1000);
    assert!(serial.uart.looks <= PATIENCE_IN_ALL + 30 * FOR_A_BYTE + 7000, "{}", serial.uart.looks);
    assert!((10..30).contains(&serial.uart.taken.len()), "{}", serial.uart.taken.len());
    serial.renew();
    let before = serial.uart.looks;
    serial.uart.every = 90;
    serial.stuck = false;
    send(&mut serial, 1);
    assert!(serial.uart.looks - before <= 7 * 90);
}

#[test]
fn looking_does_not_wait_and_gives_up_after_a_second() {
    let mut serial = open(Peer { every: 1, ..Peer::default() });
    assert_eq!(serial.look(5000, 1000), Line::Ready);
    serial.uart.every = 0;
    let before = serial.uart.looks;
    assert_eq!(serial.look(6000, 1000), Line::Busy);
    assert_eq!(serial.look(6001, 1000), Line::Absent);
    b"lost\nand lost\n".iter().for_each(|&byte| serial.miss(byte));
    assert_eq!((serial.uart.looks - before, serial.take_lost()), (2, 0));
    serial.uart.every = 1;
    assert_eq!(serial.look(6002, 1000), Line::Ready);
    assert_eq!(serial.take_lost(), 2);
}

#[test]
fn without_a_uart_nothing_is_lost() {
    let mut serial = open(Peer { absent: true, ..Peer::default() });
    assert!(!serial.is_present());
    send(&mut serial, 3);
    serial.miss(b'\n');
    assert_eq!((serial.look(0, 1000), serial.uart.looks, serial.take_lost()), (Line::Absent, 0, 0));
}
