//! Types that hold only a part of an API object, addressed by the client library like the whole one.

pub(crate) use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Lets the client library address the type, which has a field `metadata`, like the full one.
macro_rules! resource_like {
    ($reduced:ty, $full:ty) => {
        impl kube::Resource for $reduced {
            type DynamicType = ();
            type Scope = <$full as kube::Resource>::Scope;

            fn kind((): &()) -> std::borrow::Cow<'_, str> {
                <$full as kube::Resource>::kind(&())
            }
            fn group((): &()) -> std::borrow::Cow<'_, str> {
                <$full as kube::Resource>::group(&())
            }
            fn version((): &()) -> std::borrow::Cow<'_, str> {
                <$full as kube::Resource>::version(&())
            }
            fn plural((): &()) -> std::borrow::Cow<'_, str> {
                <$full as kube::Resource>::plural(&())
            }
            fn meta(&self) -> &$crate::k8s::reduced::ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut $crate::k8s::reduced::ObjectMeta {
                &mut self.metadata
            }
        }
    };
}
pub(crate) use resource_like;
