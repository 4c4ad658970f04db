//! Settings of LMBN_n and LMBN_r, Herzog et al. 2021 (arXiv:2101.10774).

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::nn::attention::AttentionKind;
use crate::words::{each, meaning, words};

use super::lmbn_n::LmbnN;
use super::lmbn_r::LmbnR;
use super::{Network, NetworkSettings, ReidNet, feats};

words! {
    /// On which network an LMBN is built.
    LmbnTrunk (OsNet) {
        /// Light multi-branch network on OSNet x1.0 (Herzog et al. 2021).
        OsNet = "LMBN_n",
        /// Light multi-branch network on ResNet-50.
        ResNet = "LMBN_r",
    }
}

/// Settings of [`LmbnN`] and [`LmbnR`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LmbnSettings {
    /// On which network it is built, which its name tells.
    #[serde(skip)]
    pub trunk: LmbnTrunk,
    /// Features of each part of an embedding.
    pub feats: usize,
    /// Attention between the blocks of the trunk.
    pub attention: AttentionKind,
}

impl Default for LmbnSettings {
    fn default() -> Self {
        Self { trunk: LmbnTrunk::default(), feats: feats(), attention: AttentionKind::default() }
    }
}

impl LmbnSettings {
    /// The defaults of either.
    pub(super) fn every() -> impl Iterator<Item = Self> {
        each().map(|trunk| Self { trunk, ..Self::default() })
    }
}

impl NetworkSettings for LmbnSettings {
    fn name(&self) -> &'static str {
        self.trunk.word()
    }

    fn about(&self) -> &'static str {
        meaning(&self.trunk)
    }

    fn features(&self) -> usize {
        self.feats
    }

    fn read(&self, flat: Map<String, Value>) -> Result<Network, serde_json::Error> {
        let read: Self = serde_json::from_value(Value::Object(flat))?;
        Ok(Network::Lmbn(Self { trunk: self.trunk, ..read }))
    }

    fn build(&self, classes: usize, device: &Device) -> ReidNet {
        match self.trunk {
            LmbnTrunk::OsNet => ReidNet::LmbnN(LmbnN::new(classes, self.feats, self.attention, device)),
            LmbnTrunk::ResNet => ReidNet::LmbnR(LmbnR::new(classes, self.feats, self.attention, device)),
        }
    }

    fn flags(&self) -> Vec<String> {
        super::attention_flag(self.attention)
    }
}
