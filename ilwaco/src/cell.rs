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
        $(#[$meta])*
        $vis static $name: $crate::cell::PerThread<$type> = {
            std::thread_local! {
                static VALUE: core::mem::ManuallyDrop<$type> = const { core::mem::ManuallyDrop::new($init) };
            }
            $crate::cell::PerThread::new(VALUE)
        };
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

    /// Calls `f` with the value.
    #[inline]
    pub(crate) fn with<R>(&'static self, f: impl FnOnce(&'static T) -> R) -> R {
        f(&self.0)
    }
}

/// A value of which every thread has its own. It is not dropped at the thread's end, when others may be gone already.
#[cfg(not(target_os = "none"))]
pub(crate) struct PerThread<T: 'static>(std::thread::LocalKey<core::mem::ManuallyDrop<T>>);

#[cfg(not(target_os = "none"))]
impl<T> PerThread<T> {
    pub(crate) const fn new(key: std::thread::LocalKey<core::mem::ManuallyDrop<T>>) -> Self {
        PerThread(key)
    }

    /// Calls `f` with the thread's value.
    pub(crate) fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.0.with(|value| f(value))
    }
}
