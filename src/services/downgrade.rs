//! Downgrade of the Maintenance service: the checks wait for a read index, so that none is made on an old state.

use std::rc::Rc;

use bytes::Bytes;
use prost::Message;

use crate::{
    apply::request::Kind,
    base::refusal::Refusal,
    os::clock,
    proto::{
        etcdserverpb::{DowngradeRequest, DowngradeResponse, downgrade_request::DowngradeAction},
        membershippb::DowngradeInfoSetRequest,
    },
    rpc::{Reply, Responder},
    service::downgrade::{self, Minor},
    services::{Services, encoded, refuse},
};

impl Services {
    pub(super) fn downgrade(self: &Rc<Self>, message: Bytes, responder: Responder) -> Option<Reply> {
        self.answer_later(message, responder, async |front, request, _| {
            front.carry_out_downgrade(&request).await.map_err(refuse).and_then(|response| encoded(&response))
        })
    }

    async fn carry_out_downgrade(&self, request: &DowngradeRequest) -> Result<DowngradeResponse, Refusal> {
        match DowngradeAction::try_from(request.action) {
            Ok(DowngradeAction::Validate) => {
                self.check_downgrade(&request.version).await?;
            }
            Ok(DowngradeAction::Enable) => {
                let enabled = async {
                    let target = self.check_downgrade(&request.version).await?;
                    self.set_downgrade(DowngradeInfoSetRequest { enabled: true, ver: target.whole() }).await
                };
                enabled.await.inspect_err(|error| tracing::warn!(%error, "reject downgrade request"))?;
            }
            Ok(DowngradeAction::Cancel) => {
                // etcd logs why nothing was to be canceled, and says that it was.
                if let Err(error) = self.cancel_downgrade().await {
                    tracing::warn!(%error, "failed to cancel downgrade");
                }
            }
            Err(_) => return Err(Refusal::UnknownMethod),
        }
        let view = self.shared.view.load();
        let version = downgrade::cluster_version(&view.membership)?.to_string();
        Ok(DowngradeResponse { header: Some(view.header(view.kv.revision())), version })
    }

    async fn check_downgrade(&self, version: &str) -> Result<Minor, Refusal> {
        let target = downgrade::target(version)?;
        downgrade::cluster_version(&self.shared.view.load().membership)?;
        self.confirmed(clock::now()).await?;
        downgrade::check(&self.shared.view.load().membership, target)?;
        Ok(target)
    }

    async fn cancel_downgrade(&self) -> Result<(), Refusal> {
        self.confirmed(clock::now()).await?;
        if !self.shared.view.load().membership.downgrade.enabled {
            return Err(Refusal::NoInflightDowngrade);
        }
        self.set_downgrade(DowngradeInfoSetRequest::default()).await
    }

    async fn set_downgrade(&self, request: DowngradeInfoSetRequest) -> Result<(), Refusal> {
        self.propose(Kind::DowngradeInfoSet, &request.encode_to_vec()).await.map(|_| ())
    }
}
