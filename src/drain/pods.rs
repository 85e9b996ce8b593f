//! The pods of a drain, in order of their names.
//!
//! A sorted list and no tree: every step goes over all of them several times, and few are ever added.

use std::sync::Arc;

use super::pod::PodRef;
use super::tracked::Tracked;

/// Each by a name that every copy of the state shares.
#[derive(Debug, Default)]
pub(super) struct Pods(Vec<(Arc<PodRef>, Tracked)>);

impl Pods {
    fn place(&self, id: &PodRef) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| (**other).cmp(id))
    }

    pub(super) fn get_mut(&mut self, id: &PodRef) -> Option<&mut Tracked> {
        let at = self.place(id).ok()?;
        self.0.get_mut(at).map(|(_, pod)| pod)
    }

    /// Adds a pod, or replaces the one of its name.
    pub(super) fn insert(&mut self, pod: Tracked) {
        if let Some(known) = self.get_mut(&pod.view.id) {
            *known = pod;
            return;
        }
        let id = Arc::new(pod.view.id.clone());
        let (Ok(at) | Err(at)) = self.place(&id);
        self.0.insert(at, (id, pod));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<PodRef>, &Tracked)> {
        self.0.iter().map(|(id, pod)| (id, pod))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Tracked> {
        self.0.iter().map(|(_, pod)| pod)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Tracked> {
        self.0.iter_mut().map(|(_, pod)| pod)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl FromIterator<Tracked> for Pods {
    fn from_iter<T: IntoIterator<Item = Tracked>>(pods: T) -> Self {
        let mut all = Self::default();
        for pod in pods {
            all.insert(pod);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{pod, start};
    use super::*;

    #[test]
    fn pods_stand_in_order_of_their_names_and_each_once() {
        let tracked = |name: &str, grace| Tracked::new(pod(name, grace), start());
        let mut pods: Pods = [tracked("c", 1), tracked("a", 2), tracked("b", 3)].into_iter().collect();
        pods.insert(tracked("a", 4));
        let found: Vec<_> = pods.iter().map(|(id, pod)| (id.name.clone(), pod.view.grace.as_secs())).collect();
        assert_eq!(found, [("a".to_owned(), 4), ("b".to_owned(), 3), ("c".to_owned(), 1)]);
        assert!(pods.get_mut(&pod("b", 0).id).is_some());
        assert!(pods.get_mut(&pod("d", 0).id).is_none());
    }
}
