#pragma once

#include <trinix/layers/attention/attention_layer.h>
#include <trinix/layers/attention/latent_attention.h>
#include <trinix/layers/attention/multi_head_attention.h>
#include <trinix/layers/attention/position.h>
#include <trinix/layers/attention/self_attention.h>

/// @file
/// All attention layers.
