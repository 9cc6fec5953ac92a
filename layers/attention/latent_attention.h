#pragma once

#include <memory>

#include <trinix/layers/attention/attention_layer.h>

/// @file
/// Attention whose keys and values come from a narrow latent, which is all that a cache keeps of a token.

namespace trinix::nn {

/// In Trinix's form, queries come from a latent of their own, and keys and values of every head from one latent:
///   q = q_up_proj(q_down_proj(x)),  c = kv_down_proj(x),  k = k_up_proj(c),  v = v_up_proj(c).
/// Positions are put into q and k afterwards, so a step of decoding computes the keys and values of all tokens again.
/// Parameters: those five projections and o_proj, each a weight and a bias; latent_dim and query_latent_dim wide.
///
/// In DeepSeek's form (rope_head_dim > 0; DeepSeek-AI, arXiv 2405.04434, section 2.1) only a part of each head knows of
/// positions, and for keys that part is shared by all heads and does not come from the latent. Per head h, with norm an
/// RMSNorm and head_dim the columns without positions:
///   c = norm(W_DKV x),  r = RoPE(W_KR x),  k_h = [W_UK,h c, r],  v_h = W_UV,h c  (value_head_dim),
///   q_h = [W_UQ,h cq, RoPE(W_QR,h cq)] with cq = norm(W_DQ x), or x itself without query_latent_dim;
///   the scores are scaled by 1 / sqrt(head_dim + rope_head_dim).
/// The cache keeps [c, r]. While decoding, keys and values need not be computed at all:
///   q_h . k_h = [W_UK,h^T q_h,nope, q_h,rope] . [c, r]  and  sum_j p_j v_h,j = W_UV,h sum_j p_j c_j,
/// so all heads attend to the cache itself, as in MultiQueryAttention ("absorption").
/// Parameters, named as in Hugging Face's DeepseekV2Attention: q_proj, or q_a_proj, q_a_layernorm, q_b_proj;
/// kv_a_proj_with_mqa (latent_dim + rope_head_dim, embed_dim); kv_a_layernorm; kv_b_proj (num_heads * (head_dim +
/// value_head_dim), latent_dim), head by head first W_UK, then W_UV; o_proj. `bias` is that of the first projection of
/// each pair and of o_proj; q_norm and k_norm do not exist in this form.
///
/// Keys and values are those of one sequence, which may be another than the queries': kdim is its width.
class MultiHeadLatentAttention : public AttentionLayer {
 public:
  /// @throws ConfigError, also for num_kv_heads and vdim; for qk_norm in DeepSeek's form, and for value_head_dim
  /// outside
  ///   of it.
  explicit MultiHeadLatentAttention(const AttentionLayerOptions& options);

  [[nodiscard]] KvCacheOptions cache_options() const override;
  [[nodiscard]] bool is_decoupled() const { return options().rope_head_dim > 0; }

  /// Whether a call with a cache attends to the latents themselves, in DeepSeek's form.
  enum class Absorb : std::uint8_t {
    automatic,  ///< where it takes fewer multiplications
    always,
    never
  };
  void set_absorb(Absorb absorb) { absorb_ = absorb; }

 protected:
  [[nodiscard]] Tensor compute(const Tensor& query, const Tensor& key, const Tensor& value,
                               const AttentionCall& call) const override;

 private:
  void make_low_rank();
  void make_decoupled();
  [[nodiscard]] Tensor heads_of(const Tensor& x) const;
  [[nodiscard]] Tensor compute_low_rank(const Tensor& query, const Tensor& key, const AttentionCall& call) const;
  [[nodiscard]] Tensor compute_decoupled(const Tensor& query, const Tensor& key, const AttentionCall& call) const;
  [[nodiscard]] Tensor attend_expanded(const Tensor& q_nope, const Tensor& q_rope, const Tensor& latent,
                                       const Tensor& k_rope, const AttentionCall& call) const;
  [[nodiscard]] Tensor attend_absorbed(const Tensor& q_nope, const Tensor& q_rope, const Tensor& entries,
                                       const AttentionCall& call) const;
  [[nodiscard]] bool absorbs(std::int64_t queries, std::int64_t keys) const;

  Absorb absorb_ = Absorb::automatic;
  std::shared_ptr<Linear> q_down_;  ///< W_DQ; null without a bottleneck for queries
  std::shared_ptr<Layer> q_latent_norm_;
  std::shared_ptr<Linear> q_up_;
  std::shared_ptr<Linear> kv_down_;
  std::shared_ptr<Layer> kv_latent_norm_;
  std::shared_ptr<Linear> k_up_;  ///< in the low-rank form, as the next
  std::shared_ptr<Linear> v_up_;
  std::shared_ptr<Linear> kv_up_;  ///< in the decoupled form
  std::shared_ptr<Linear> o_proj_;
};

}  // namespace trinix::nn
