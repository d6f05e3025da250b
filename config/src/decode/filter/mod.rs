//! What a route makes of requests and answers: `cors`, `rewrite`, `maintenance`, `error_pages`,
//! `security_headers`.

mod cors;
mod maintenance;
mod pages;
mod rewrite;
mod security;

use super::{Cx, Fields};
use crate::model::{Cors, ErrorPage, HeaderRules, Maintenance, PathRule, Rewrite, SecurityHeaders};
use crate::value::{MethodName, quote};

pub(super) use rewrite::{covers, is_below};

/// The filters of one route.
#[derive(Default)]
pub(super) struct Filters {
    pub maintenance: Option<Maintenance>,
    pub cors: Option<Cors>,
    pub rewrite: Option<Rewrite>,
    pub error_pages: Vec<ErrorPage>,
    pub security_headers: Option<SecurityHeaders>,
}

impl Cx<'_> {
    /// `path` is the route's own.
    pub(super) fn filters(&mut self, fields: &Fields<'_, '_>, path: &PathRule) -> Filters {
        let maintenance = self.field(fields, "maintenance", Self::maintenance);
        let cors = self.field(fields, "cors", Self::cors);
        let rewrite = self.field(fields, "rewrite", |cx, node, at| cx.rewrite(node, at, path));
        let error_pages = self.field(fields, "error_pages", Self::error_pages);
        let security_headers = self.field(fields, "security_headers", Self::security_headers);
        if fields.has("rewrite") && fields.has("respond") {
            let message = "a route with `respond` has no `rewrite`: nobody gets the path";
            let at = fields.at.key("rewrite");
            self.error(fields.pos_of("rewrite"), &at, message, Some("remove it".into()));
        }
        Filters {
            maintenance: maintenance.flatten(),
            cors,
            rewrite,
            error_pages: error_pages.unwrap_or_default(),
            security_headers,
        }
    }

    /// The browser asks with OPTIONS before it sends anything: a route with `methods` and without
    /// OPTIONS never sees the question.
    pub(super) fn warn_about_preflights(
        &mut self,
        fields: &Fields<'_, '_>,
        methods: Option<&[MethodName]>,
    ) {
        let Some(methods) = methods else { return };
        if !methods.iter().any(|method| method.as_str() == "OPTIONS") {
            let message = "browsers ask with OPTIONS first, which this route does not take";
            let help = Some("add OPTIONS to `methods` of the route".to_owned());
            self.warn(fields.pos_of("cors"), &fields.at.key("cors"), message, help);
        }
    }

    /// Browsers refuse an answer with two values in such a field.
    pub(super) fn warn_about_doubled_fields(
        &mut self,
        fields: &Fields<'_, '_>,
        headers: Option<&HeaderRules>,
    ) {
        let Some(HeaderRules { response, .. }) = headers else { return };
        let names = response.set.iter().chain(&response.add).map(|(name, _)| name);
        for name in names.filter(|name| name.starts_with("access-control-")) {
            let message = format!("{} is set by `cors` as well", quote(name));
            let help = Some("remove one of them".to_owned());
            self.warn(fields.pos_of("headers"), &fields.at.key("headers"), message, help);
        }
    }
}
