//! From a path to the method behind it, as the `google.api.http` options in `proto/` say.

use std::{collections::HashMap, rc::Rc};

use prost_reflect::{DynamicMessage, ExtensionDescriptor, MethodDescriptor, Value};

use super::shapes::{MessageId, Shapes, descriptors};
use crate::{
    rpc::{MethodId, MethodKind},
    services::methods::METHODS,
};

const OPTION: &str = "google.api.http";

/// All routes, and the shapes of their messages.
pub(super) struct Routes {
    by_path: HashMap<String, Route, ahash::RandomState>,
    pub(super) shapes: Rc<Shapes>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub method: MethodId,
    pub kind: MethodKind,
    pub request: MessageId,
    pub response: MessageId,
}

impl Routes {
    pub(super) fn read() -> Routes {
        let pool = descriptors();
        let option = pool.get_extension_by_name(OPTION).expect("the option is in proto/");
        let (mut shapes, mut by_path) = (Shapes::default(), HashMap::default());
        for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let Some((id, kind)) = served(&method) else { continue };
            for path in paths(&method, &option) {
                let (request, response) = (shapes.add(&method.input()), shapes.add(&method.output()));
                by_path.insert(path, Route { method: id, kind, request, response });
            }
        }
        Routes { by_path, shapes: Rc::new(shapes) }
    }

    pub(super) fn find(&self, path: &str) -> Option<&Route> {
        self.by_path.get(path)
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> impl Iterator<Item = (&String, &Route)> {
        self.by_path.iter()
    }
}

/// The method in the server's table.
fn served(method: &MethodDescriptor) -> Option<(MethodId, MethodKind)> {
    let service = method.parent_service();
    let is_it =
        |(_, known): &(u16, &crate::rpc::Method)| known.service == service.full_name() && known.name == method.name();
    (0..).zip(METHODS).find(is_it).map(|(number, known)| (MethodId(number), known.kind))
}

/// The paths that are posted to.
fn paths(method: &MethodDescriptor, option: &ExtensionDescriptor) -> Vec<String> {
    let options = method.options();
    let rule = options.get_extension(option);
    let Value::Message(rule) = &*rule else { return Vec::new() };
    let mut paths: Vec<String> = path_of(rule).into_iter().collect();
    if let Some(more) = rule.get_field_by_name("additional_bindings") {
        let more = more.as_list().unwrap_or_default();
        paths.extend(more.iter().filter_map(|rule| path_of(rule.as_message()?)));
    }
    paths
}

fn path_of(rule: &DynamicMessage) -> Option<String> {
    let path = rule.get_field_by_name("post")?.as_str()?.to_owned();
    (!path.is_empty()).then_some(path)
}
