//! Where pods get their addresses: from an ipamd, or simply.

use std::time::Duration;

use crate::sim::ipamd::SimIpamd;
use crate::sim::objects::NODE_IP;
use crate::sim::seen::Pod;

/// Asks for an interface on every network card.
const EVERY_CARD: (&str, &str) = ("k8s.amazonaws.com/nicConfig", "multi-nic-attachment");
/// Between two looks whether a pod that waits has got its address meanwhile; ipamd tries by itself.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What became of a pod's sandbox.
pub(super) enum Sandbox {
    /// It is up and has this address.
    Ready(String),
    /// There is no address; to be looked at again after this.
    Waits(Duration),
}

/// The network of a node.
#[derive(Default)]
pub(super) struct Network(Option<SimIpamd>);

impl Network {
    pub(super) fn of(ipamd: SimIpamd) -> Self {
        Self(Some(ipamd))
    }

    /// An address for a pod that is about to start, the `number`th of its node; `again` if it waits for one already.
    pub(super) fn set_up(&self, pod: &Pod, number: u32, again: bool) -> Sandbox {
        if is_on_the_host(pod) {
            return Sandbox::Ready(NODE_IP.to_owned());
        }
        let Some(ipamd) = &self.0 else {
            return Sandbox::Ready(format!("10.0.{}.{}", 1 + number / 250 % 250, 1 + number % 250));
        };
        let name = full_name(pod);
        let annotations = pod.metadata.annotations.as_ref();
        let (key, value) = EVERY_CARD;
        let every_card = annotations.and_then(|all| all.get(key)).is_some_and(|wish| wish == value);
        let addresses = match (again, every_card) {
            // The simulated ipamd tries again by itself, as often as a kubelet does; each try counts.
            (true, _) => ipamd.addresses_of(&name),
            (false, true) => ipamd.multi_nic_pod_added(&name).unwrap_or_default(),
            (false, false) => ipamd.pod_added(&name).unwrap_or_default(),
        };
        match addresses.first() {
            Some(address) => Sandbox::Ready(address.to_string()),
            None => Sandbox::Waits(LOOK_AGAIN),
        }
    }

    /// The pod's address is not needed any more.
    pub(super) fn take_down(&self, pod: &Pod) {
        if let Some(ipamd) = self.0.as_ref().filter(|_| !is_on_the_host(pod)) {
            ipamd.pod_removed(&full_name(pod));
        }
    }
}

fn is_on_the_host(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false)
}

fn full_name(pod: &Pod) -> String {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}/{}", text(&pod.metadata.namespace), text(&pod.metadata.name))
}
