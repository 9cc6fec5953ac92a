#pragma once

#include <memory>
#include <string_view>

#include <trinix/layers/attention/attention_layer.h>

/// @file
/// An attention layer by name, as configurations have it.

namespace trinix::nn {

enum class AttentionKind : std::uint8_t {
  mha,  ///< MultiHeadAttention
  gqa,  ///< GroupedQueryAttention
  mqa,  ///< MultiQueryAttention
  mla   ///< MultiHeadLatentAttention
};

/// "mha", "gqa", "mqa", "mla".
[[nodiscard]] std::string_view name(AttentionKind kind);
/// @throws ConfigError listing the names.
[[nodiscard]] AttentionKind parse_attention_kind(std::string_view text);

/// @throws ConfigError for options that the layer does not take.
[[nodiscard]] std::shared_ptr<AttentionLayer> make_attention(AttentionKind kind, const AttentionLayerOptions& options);

}  // namespace trinix::nn
