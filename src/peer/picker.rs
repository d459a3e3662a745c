//! Which of a member's URLs is asked.

use std::cell::{Cell, RefCell};

use http::Uri;

/// The URLs of one member and the one that is used.
#[derive(Debug, Default)]
pub(super) struct Picker {
    urls: RefCell<Vec<Uri>>,
    picked: Cell<usize>,
}

impl Picker {
    pub(super) fn new(urls: &[String]) -> Self {
        let picker = Self::default();
        picker.update(urls);
        picker
    }

    /// Other URLs take the place of these. What is no URL is left out.
    pub(super) fn update(&self, urls: &[String]) {
        let is_usable = |url: &Uri| url.authority().is_some() && url.scheme().is_some();
        *self.urls.borrow_mut() = urls.iter().filter_map(|url| url.parse().ok()).filter(is_usable).collect();
        self.picked.set(0);
    }

    /// The URL to use; `None` if there is none at all.
    pub(super) fn pick(&self) -> Option<Uri> {
        self.urls.borrow().get(self.picked.get()).cloned()
    }

    /// `url` did not work: the next one is used from now on, unless somebody said so before.
    pub(super) fn unreachable(&self, url: &Uri) {
        let urls = self.urls.borrow();
        if urls.get(self.picked.get()) == Some(url) {
            self.picked.set((self.picked.get() + 1) % urls.len());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.urls.borrow().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_moves_on_once() {
        let picker = Picker::new(&["http://a:1".into(), "no url".into(), "http://b:2".into()]);
        let first = picker.pick().unwrap();
        assert_eq!(first.authority().unwrap(), "a:1");
        picker.unreachable(&first);
        picker.unreachable(&first);
        let second = picker.pick().unwrap();
        assert_eq!(second.authority().unwrap(), "b:2");
        picker.unreachable(&second);
        assert_eq!(picker.pick().unwrap(), first);
        picker.update(&[]);
        assert!(picker.pick().is_none() && picker.is_empty());
    }
}
