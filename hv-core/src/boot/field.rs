//! What can be wrong with a boot record, or with what a controller sends: a field and a value.

/// Fields that can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Field {
    Address,
    Magic,
    Version,
    Bytes,
    Backend,
    Features,
    Count,
    RangeBounds,
    RangeOrder,
    RangeOwner,
    Own,
    Core,
    Root,
    FrameTable,
    FreeFrames,
    Glyphs,
    TscHz,
    LocalApic,
    IoApic,
    Msix,
    Bar,
    Ring,
    Component,
    Policy,
    Segment,
    SegmentAccess,
    SegmentOverlap,
    SegmentOwner,
    Entry,
    Image,
    Screen,
    Said,
    Options,
    SelfTest,
    VmCounts,
    VmRecords,
    VmCells,
    VmRecord,
    VmImage,
    VmArgs,
    Device,
    Service,
    Barriers,
    Tenant,
}

/// A field that is wrong, and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Refused {
    pub field: Field,
    pub value: u64,
}

/// Nothing wrong, or the first field that is.
pub type Checked = Result<(), Refused>;

/// The field is refused unless it is good.
///
/// # Errors
/// [`Refused`].
pub(super) fn ensure(good: bool, field: Field, value: impl Into<u64>) -> Checked {
    if good { Ok(()) } else { Err(Refused { field, value: value.into() }) }
}
