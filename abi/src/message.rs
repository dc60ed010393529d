//! The 64-byte message that fills one slot of a ring.

use crate::claim::Claim;
use crate::limits::Name;
use crate::nic::Node;
use crate::request_page::Piece;
use crate::ring::SLOT_BYTES;
use crate::share::Share;
use crate::tenant::Tenant;
use crate::vm::{ImageId, Seat, Slot, VmId};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One slot. What `kind` and `words` mean is defined per ring: [`crate::pager`], [`crate::sched`], [`crate::net`],
/// [`crate::control`]. Unused words are zero.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Message {
    /// Which message of its ring this is.
    pub kind: u32,
    /// Chosen by the sender of a request and returned in the answer; 0 where there is no answer.
    pub id: u32,
    /// Arguments.
    pub words: [u64; 7],
}

const _: () = assert!(core::mem::size_of::<Message>() == SLOT_BYTES);

impl Message {
    /// A message of `kind` with up to seven words; the rest are zero.
    pub const fn new<const N: usize>(kind: u32, words: [u64; N]) -> Message {
        let mut all = [0; 7];
        let mut i = 0;
        while i < N && i < 7 {
            all[i] = words[i];
            i += 1;
        }
        Message { kind, id: 0, words: all }
    }
}

/// A message that its receiver does not know or whose arguments are out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadMessage {
    /// The kind that stood in it.
    pub kind: u32,
    /// What is wrong.
    pub what: Malformed,
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The receiver has no message of this kind.
    Kind,
    /// A word that holds a 32-bit number is greater.
    Above32Bits,
    /// A word that holds a 16-bit number is greater.
    Above16Bits,
    /// No tenant has this name.
    Tenant,
    /// No reason to stay.
    Stays,
    /// No way to choose who is admitted.
    Admission,
    /// No kind of access.
    Access,
    /// More pages than a command may name.
    PageCount,
    /// The VM or its image has no such page.
    Page,
    /// No VM that went out can be stored like this.
    Bundle,
}

impl core::fmt::Display for Malformed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Malformed::Kind => "unknown kind",
            Malformed::Above32Bits => "a 32-bit word has bits above 31 set",
            Malformed::Above16Bits => "a 16-bit word has bits above 15 set",
            Malformed::Tenant => "no tenant's name",
            Malformed::Stays => "unknown reason to stay",
            Malformed::Admission => "unknown way to admit",
            Malformed::Access => "unknown access",
            Malformed::PageCount => "more pages than a command may name",
            Malformed::Page => "a page that the VM or its image does not have",
            Malformed::Bundle => "a bundle that cannot be",
        })
    }
}

impl core::fmt::Display for BadMessage {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "message of kind {:#x}: {}", self.kind, self.what)
    }
}

impl BadMessage {
    /// The receiver has no message of this kind.
    pub const fn unknown(kind: u32) -> Self {
        BadMessage { kind, what: Malformed::Kind }
    }
}

/// Low 32 bits of a message word that is defined to hold a 32-bit number.
fn low32(kind: u32, word: u64) -> Result<u32, BadMessage> {
    u32::try_from(word).map_err(|_| BadMessage { kind, what: Malformed::Above32Bits })
}

/// As [`low32`], for 16 bits.
fn low16(kind: u32, word: u64) -> Result<u16, BadMessage> {
    u16::try_from(word).map_err(|_| BadMessage { kind, what: Malformed::Above16Bits })
}

/// What stands in one or more words of a message.
pub(crate) trait Words: Sized {
    /// Writes it into the words from `at` on, which becomes the first behind it.
    fn put(self, words: &mut [u64; 7], at: &mut usize);

    /// Reads what [`Words::put`] has written.
    ///
    /// # Errors
    /// It is out of range.
    fn take(kind: u32, words: &[u64; 7], at: &mut usize) -> Result<Self, BadMessage>;
}

/// What stands in one word, or in a half of one.
pub(crate) trait Word: Sized {
    fn to_word(self) -> u64;
    fn from_word(kind: u32, word: u64) -> Result<Self, BadMessage>;
}

impl<T: Word> Words for T {
    #[inline(always)]
    fn put(self, words: &mut [u64; 7], at: &mut usize) {
        words[*at] = self.to_word();
        *at += 1;
    }

    #[inline(always)]
    fn take(kind: u32, words: &[u64; 7], at: &mut usize) -> Result<Self, BadMessage> {
        *at += 1;
        Self::from_word(kind, words[*at - 1])
    }
}

/// `$type` is a word: how it becomes one, and how one becomes it.
macro_rules! word {
    ($type:ty, |$value:ident| $to:expr, |$kind:ident, $word:ident| $from:expr) => {
        impl $crate::message::Word for $type {
            #[inline(always)]
            fn to_word(self) -> u64 {
                let $value = self;
                $to
            }

            #[inline(always)]
            fn from_word($kind: u32, $word: u64) -> Result<Self, $crate::message::BadMessage> {
                $from
            }
        }
    };
}
pub(crate) use word;

word!(u64, |value| value, |_kind, word| Ok(word));
word!(u32, |value| value.into(), |kind, word| low32(kind, word));
word!(u16, |value| value.into(), |kind, word| low16(kind, word));
word!(bool, |value| value.into(), |_kind, word| Ok(word != 0));
word!(VmId, |vm| vm.raw(), |_kind, word| Ok(VmId::from_raw(word)));
word!(Seat, |seat| seat.number().into(), |kind, word| low16(kind, word).map(Seat::new));
word!(ImageId, |image| image.number().into(), |kind, word| low32(kind, word).map(ImageId::new));
word!(Node, |node| node.number().into(), |kind, word| low32(kind, word).map(Node::new));
// One that is not there is all ones.
word!(Option<Seat>, |seat| seat.map_or(u64::MAX, |seat| seat.to_word()), |kind, word| if word == u64::MAX {
    Ok(None)
} else {
    Seat::from_word(kind, word).map(Some)
});

word!(Slot, |slot| slot.number().into(), |kind, word| low32(kind, word).map(Slot::new));
word!(Option<Slot>, |slot| slot.map_or(u32::MAX.into(), |slot| slot.to_word()), |kind, word| low32(kind, word)
    .map(|raw| (raw != u32::MAX).then(|| Slot::new(raw))));
word!(Piece, |piece| piece.raw().into(), |kind, word| low32(kind, word).map(Piece::from_raw));
word!(Tenant, |tenant| tenant.raw().into(), |kind, word| Tenant::from_raw(low32(kind, word)?)
    .ok_or(BadMessage { kind, what: Malformed::Tenant }));

// The limit stands above the reserve.
word!(Claim, |claim| claim.limit.to_word() << 32 | claim.reserve.to_word(), |kind, word| Ok(Claim {
    reserve: low32(kind, word & 0xffff_ffff)?,
    limit: low32(kind, word >> 32)?,
}));

impl Words for [u8; 16] {
    #[inline(always)]
    fn put(self, words: &mut [u64; 7], at: &mut usize) {
        for half in self.as_chunks::<8>().0 {
            u64::from_le_bytes(*half).put(words, at);
        }
    }

    #[inline(always)]
    fn take(kind: u32, words: &[u64; 7], at: &mut usize) -> Result<Self, BadMessage> {
        let halves: [u64; 2] = [Words::take(kind, words, at)?, Words::take(kind, words, at)?];
        let mut bytes = [0; 16];
        for (half, word) in bytes.as_chunks_mut().0.iter_mut().zip(halves) {
            *half = word.to_le_bytes();
        }
        Ok(bytes)
    }
}

impl Words for [u8; 48] {
    fn put(self, words: &mut [u64; 7], at: &mut usize) {
        self.as_chunks::<16>().0.iter().for_each(|third| third.put(words, at));
    }

    fn take(kind: u32, words: &[u64; 7], at: &mut usize) -> Result<Self, BadMessage> {
        let mut bytes = [0; 48];
        for third in bytes.as_chunks_mut::<16>().0 {
            *third = Words::take(kind, words, at)?;
        }
        Ok(bytes)
    }
}

impl Words for Name {
    #[inline(always)]
    fn put(self, words: &mut [u64; 7], at: &mut usize) {
        self.0.put(words, at);
    }

    #[inline(always)]
    fn take(kind: u32, words: &[u64; 7], at: &mut usize) -> Result<Self, BadMessage> {
        Words::take(kind, words, at).map(Name)
    }
}

impl Words for Share {
    #[inline(always)]
    fn put(self, words: &mut [u64; 7], at: &mut usize) {
        self.weight.put(words, at);
        self.limits().put(words, at);
    }

    #[inline(always)]
    fn take(kind: u32, words: &[u64; 7], at: &mut usize) -> Result<Self, BadMessage> {
        Ok(Share::from_limits(Words::take(kind, words, at)?, Words::take(kind, words, at)?))
    }
}

/// Messages of one direction of a ring: each with its number and what stands in its words, one after the other. `high | low` are the halves of a
/// word; three or four are quarters of it. Makes the type and the ways to [`Message`] and back, the checks included.
macro_rules! messages {
    (
        $(#[$doc:meta])*
        $enum:ident {
            $($(#[$about:meta])* $kind:literal $name:ident $({ $($field:ident: $type:ty $(| $low:ident: $low_type:ty)*),* $(,)? })?,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $enum {
            $($(#[$about])* $name $({ $($field: $type, $($low: $low_type,)*)* })?,)*
        }

        impl From<$enum> for $crate::message::Message {
            #[inline]
            fn from(message: $enum) -> $crate::message::Message {
                #[allow(unused_imports)]
                use $crate::message::{Word, Words};
                let mut words = [0; 7];
                let mut _at = 0;
                let kind = match message {
                    $($enum::$name $({ $($field, $($low,)*)* })? => {
                        $($(
                            $crate::message::put_word!(words, _at, $field $(, $low)*);
                        )*)?
                        $kind
                    })*
                };
                $crate::message::Message { kind, id: 0, words }
            }
        }

        impl TryFrom<&$crate::message::Message> for $enum {
            type Error = $crate::message::BadMessage;

            #[inline]
            fn try_from(message: &$crate::message::Message) -> Result<Self, $crate::message::BadMessage> {
                #[allow(unused_imports)]
                use $crate::message::{Word, Words};
                let (kind, words) = (message.kind, &message.words);
                let mut _at = 0;
                match kind {
                    $($kind => {
                        $($(
                            $crate::message::take_word!(kind, words, _at, $field: $type $(, $low: $low_type)*);
                        )*)?
                        Ok($enum::$name $({ $($field, $($low,)*)* })?)
                    })*
                    _ => Err($crate::message::BadMessage::unknown(kind)),
                }
            }
        }
    };
}
pub(crate) use messages;

/// A field of [`messages`], or those that share a word, into the words.
macro_rules! put_word {
    ($words:ident, $at:ident, $field:ident) => {
        $field.put(&mut $words, &mut $at)
    };
    ($words:ident, $at:ident, $high:ident, $low:ident) => {
        ($high.to_word() << 32 | $low.to_word()).put(&mut $words, &mut $at)
    };
    ($words:ident, $at:ident, $($quarter:ident),*) => {
        [$($quarter.to_word()),*].into_iter().fold(0, |word, quarter| word << 16 | quarter).put(&mut $words, &mut $at)
    };
}
pub(crate) use put_word;

/// The inverse of [`put_word`].
macro_rules! take_word {
    ($kind:ident, $words:ident, $at:ident, $field:ident: $type:ty) => {
        let $field = <$type as Words>::take($kind, $words, &mut $at)?;
    };
    ($kind:ident, $words:ident, $at:ident, $high:ident: $high_type:ty, $low:ident: $low_type:ty) => {
        let word = <u64 as Words>::take($kind, $words, &mut $at)?;
        let ($high, $low) = (
            <$high_type as Word>::from_word($kind, word >> 32)?,
            <$low_type as Word>::from_word($kind, word & 0xffff_ffff)?,
        );
    };
    ($kind:ident, $words:ident, $at:ident, $a:ident: $a_type:ty, $b:ident: $b_type:ty, $c:ident: $c_type:ty) => {
        let word = <u64 as Words>::take($kind, $words, &mut $at)?;
        let ($a, $b, $c) = (
            <$a_type as Word>::from_word($kind, word >> 32)?,
            <$b_type as Word>::from_word($kind, word >> 16 & 0xffff)?,
            <$c_type as Word>::from_word($kind, word & 0xffff)?,
        );
    };
    ($kind:ident, $words:ident, $at:ident, $a:ident: $a_type:ty, $b:ident: $b_type:ty, $c:ident: $c_type:ty, $d:ident: $d_type:ty) => {
        let word = <u64 as Words>::take($kind, $words, &mut $at)?;
        let ($a, $b, $c, $d) = (
            <$a_type as Word>::from_word($kind, word >> 48)?,
            <$b_type as Word>::from_word($kind, word >> 32 & 0xffff)?,
            <$c_type as Word>::from_word($kind, word >> 16 & 0xffff)?,
            <$d_type as Word>::from_word($kind, word & 0xffff)?,
        );
    };
}
pub(crate) use take_word;
