#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/layers/attention/latent_attention.h>
#include <trinix/layers/attention/make_attention.h>
#include <trinix/layers/attention/multi_head_attention.h>

namespace trinix::nn {

std::string_view name(AttentionKind kind) {
  constexpr std::string_view names[] = {"mha", "gqa", "mqa", "mla"};
  return names[static_cast<int>(kind)];
}

AttentionKind parse_attention_kind(std::string_view text) {
  for (const auto kind : {AttentionKind::mha, AttentionKind::gqa, AttentionKind::mqa, AttentionKind::mla}) {
    if (name(kind) == text) return kind;
  }
  detail::fail<ConfigError>("attention", "there is no attention '{}': choose one of mha, gqa, mqa, mla", text);
}

std::shared_ptr<AttentionLayer> make_attention(AttentionKind kind, const AttentionLayerOptions& options) {
  switch (kind) {
    case AttentionKind::mha:
      return std::make_shared<MultiHeadAttention>(options);
    case AttentionKind::gqa:
      return std::make_shared<GroupedQueryAttention>(options);
    case AttentionKind::mqa:
      return std::make_shared<MultiQueryAttention>(options);
    case AttentionKind::mla:
      break;
  }
  return std::make_shared<MultiHeadLatentAttention>(options);
}

}  // namespace trinix::nn
