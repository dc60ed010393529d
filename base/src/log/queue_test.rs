use super::*;
use abi::limits::Name;
use abi::log::Registers;
use std::boxed::Box;
use std::string::String;
use std::vec::Vec;

fn queue() -> Box<Queue> {
    Box::new(Queue::new())
}

fn write(queue: &mut Queue, text: &str) {
    text.bytes().for_each(|byte| queue.byte(byte));
}

fn all(queue: &mut Queue) -> String {
    let bytes: Vec<u8> = core::iter::from_fn(|| queue.pop()).collect();
    String::from_utf8(bytes).expect("text")
}

#[test]
fn records_and_text_leave_in_order_and_whole() {
    let mut queue = queue();
    let long = "x".repeat(3 * PIECE + 7);
    write(&mut queue, "a guest\r\n");
    queue.record(0, Record::PoweredOff);
    write(&mut queue, &long);
    write(&mut queue, "\r\n");
    queue.record(0, Record::SerialLost { lines: 3 });
    assert_eq!(queue.len(), 1 + 1 + 4 + 1);
    assert_eq!(
        all(&mut queue),
        format!(
            "a guest\r\n[    0.000000] INFO  foraker: powered off\r\n{long}\r\n\
             [    0.000000] WARN  core: 3 lines left out on the serial line: nobody read them\r\n"
        )
    );
    assert!(queue.is_empty() && queue.pop().is_none());
}

#[test]
fn a_line_that_is_not_whole_leaves_when_it_is_closed() {
    let mut queue = queue();
    write(&mut queue, "FATAL");
    assert!(queue.is_empty());
    // Whatever else is said does not come before it.
    queue.record(0, Record::PoweredOff);
    assert!(all(&mut queue).starts_with("FATAL["));
    write(&mut queue, "more");
    queue.close();
    assert_eq!(all(&mut queue), "more");
    queue.close();
    assert!(queue.is_empty());
}

#[test]
fn a_full_queue_has_room_again_when_a_line_has_begun_to_leave() {
    let mut queue = queue();
    let mut most = 0;
    while !queue.is_full() {
        queue.record(0, Record::SerialLost { lines: most });
        most += 1;
    }
    let most = usize::try_from(most).expect("few");
    assert!(most > ENTRIES - NEXT && queue.len() == most);
    assert_eq!(queue.pop(), Some(b'['));
    assert!(!queue.is_full() && !queue.is_empty());
    queue.record(0, Record::PoweredOff);
    let text = all(&mut queue);
    // The first character was taken before.
    assert_eq!(text.lines().count(), most + 1);
    assert!(text.lines().zip(0..most).all(|(line, number)| line.contains(&format!(": {number} lines"))));
    assert!(text.ends_with("powered off\r\n"));
}

#[test]
fn the_longest_record_is_whole() {
    const ALL: u64 = u64::MAX;
    let registers = Registers {
        rax: ALL,
        rbx: ALL,
        rcx: ALL,
        rdx: ALL,
        rsi: ALL,
        rdi: ALL,
        rbp: ALL,
        r8_to_r15: [ALL; 8],
        rip: ALL,
        rflags: ALL,
        rsp: ALL,
    };
    let name = Name::new("a-name-of-sixtee").expect("a name");
    let mut queue = queue();
    queue.record(u64::MAX, Record::Faulted { name, vector: 255, error: ALL, address: ALL, registers });
    let text = all(&mut queue);
    assert!(text.ends_with("rsp: ffffffffffffffff }\r\n"), "{text}");
}

#[test]
fn a_line_without_end_takes_the_room_that_there_is() {
    let mut queue = queue();
    write(&mut queue, &"y".repeat(2 * ENTRIES * PIECE));
    assert_eq!(all(&mut queue), "y".repeat(ENTRIES * PIECE));
}
