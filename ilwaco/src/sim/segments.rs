//! What the machine makes of records of several segments: frames, as the demultiplexer or a NIC cuts them.

use abi::nic::{MAX_FRAME, MAX_SEGMENTS, MIN_SEGMENT};
use smoltcp::wire::{EthernetFrame, Ipv4Packet, TcpPacket};
use std::vec::Vec;

/// Cuts a record into frames with `segment` bytes of data each.
///
/// # Panics
///
/// When a machine would refuse it.
pub fn cut(record: &[u8], segment: u16) -> Vec<Vec<u8>> {
    let segment = usize::from(segment);
    assert!(record.len() <= MAX_SEGMENTS && segment >= MIN_SEGMENT);
    let ip = Ipv4Packet::new_checked(&record[14..]).expect("IPv4 whose length is right");
    assert_eq!((ip.header_len(), usize::from(ip.total_len())), (20, record.len() - 14));
    let tcp = TcpPacket::new_checked(ip.payload()).expect("TCP");
    let headers = 34 + usize::from(tcp.header_len());
    let (fin, psh, sequence) = (tcp.fin(), tcp.psh(), tcp.seq_number());
    assert!(!tcp.syn() && !tcp.rst() && !tcp.urg() && headers + segment <= MAX_FRAME && headers < record.len());
    let parts = record[headers..].chunks(segment);
    let last = parts.len() - 1;
    let frames = parts.enumerate().map(|(number, part)| {
        let mut frame = [&record[..headers], part].concat();
        let mut ethernet = EthernetFrame::new_unchecked(&mut frame);
        let mut ip = Ipv4Packet::new_unchecked(ethernet.payload_mut());
        let small = |len: usize| u16::try_from(len).expect("short");
        ip.set_total_len(small(headers - 14 + part.len()));
        ip.set_ident(ip.ident().wrapping_add(small(number)));
        ip.fill_checksum();
        let (from, to) = (ip.src_addr().into(), ip.dst_addr().into());
        let mut tcp = TcpPacket::new_unchecked(ip.payload_mut());
        tcp.set_seq_number(sequence + number * segment);
        tcp.set_fin(fin && number == last);
        tcp.set_psh(psh && number == last);
        tcp.fill_checksum(&from, &to);
        frame
    });
    frames.collect()
}
