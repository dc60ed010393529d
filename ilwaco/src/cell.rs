//! Globals of a program that has one thread.

/// Declares a global that only the guest's one thread touches: `NAME.with(|value| …)`.
///
/// On the host, where tests run in many threads, every thread has its own.
macro_rules! global {
    ($(#[$meta:meta])* $vis:vis static $name:ident: $type:ty = $init:expr;) => {
        #[cfg(target_os = "none")]
        $(#[$meta])*
        $vis static $name: $crate::cell::Single<$type> = $crate::cell::Single::new($init);

        #[cfg(not(target_os = "none"))]
        std::thread_local! {
            $(#[$meta])*
            $vis static $name: $type = const { $init };
        }
    };
}
pub(crate) use global;

/// A value of which no second thread can exist.
#[cfg(target_os = "none")]
pub(crate) struct Single<T>(T);

// SAFETY: a guest has one CPU, Ilwaco registers no upcall entry, and the fault handler never returns and touches no
// global; so there is one thread of execution and nothing is ever shared between two.
#[cfg(target_os = "none")]
unsafe impl<T> Sync for Single<T> {}

#[cfg(target_os = "none")]
impl<T> Single<T> {
    pub(crate) const fn new(value: T) -> Self {
        Single(value)
    }

    /// Calls `f` with the value, as [`std::thread::LocalKey::with`] does.
    #[inline]
    pub(crate) fn with<R>(&'static self, f: impl FnOnce(&'static T) -> R) -> R {
        f(&self.0)
    }
}
