#pragma once

#include <memory>
#include <optional>

#include <trinix/autograd/ops/attention.h>
#include <trinix/core/generator.h>
#include <trinix/core/kernel.h>
#include <trinix/layers/attention/position.h>
#include <trinix/layers/kv_cache.h>
#include <trinix/layers/linear.h>
#include <trinix/layers/module.h>

/// @file
/// What all attention layers have in common: options, calls, and the way from projected heads to their mixture.

namespace trinix::nn {

/// Normalisation of queries and keys over a head's columns, before their positions. Henry et al., arXiv 2010.04245;
/// Dehghani et al., arXiv 2302.05442.
enum class QkNorm : std::uint8_t { none, rms, layer };

/// The names are those of Trinix. Each layer says which of them it takes; one that it does not take is an error.
struct AttentionLayerOptions {
  std::int64_t embed_dim = 0;  ///< width of the queries' input and of the output
  std::int64_t num_heads = 0;
  std::int64_t num_kv_heads = 0;     ///< heads of keys and values; divides num_heads; 0: as the layer's name says
  std::int64_t head_dim = 0;         ///< 0: embed_dim / num_heads
  std::int64_t kdim = 0;             ///< width of the keys' input; 0: embed_dim
  std::int64_t vdim = 0;             ///< width of the values' input; 0: embed_dim
  std::optional<double> scale = {};  ///< of the scores; default 1 / sqrt(columns of a query)
  double dropout = 0;                ///< on the attention probabilities, when training
  bool bias = true;                  ///< in the projections
  bool causal = false;               ///< a query sees its own key and those before it, aligned at the end
  PositionChoice position = Position::none;
  std::int64_t max_seq_len = 2048;  ///< positions that RoPE knows, and tokens that a cache holds unless told otherwise
  double rope_base = 10000;
  /// Keys that a query sees on each side besides its own (on the left alone when causal).
  std::optional<std::int64_t> sliding_window = {};
  QkNorm qk_norm = QkNorm::none;
  double qk_norm_eps = 1e-6;
  /// Adds a key and a value of zeros that every query sees: attention may then go nowhere.
  bool add_zero_attn = false;
  bool batch_first = true;  ///< inputs and outputs (B, T, width); false: (T, B, width)

  // MultiHeadLatentAttention only; see there.
  std::int64_t latent_dim = 0;        ///< 0: max(16, embed_dim / 8)
  std::int64_t query_latent_dim = 0;  ///< 0: latent_dim, or no bottleneck for queries in the decoupled form
  std::int64_t rope_head_dim = 0;     ///< positive: the decoupled form of DeepSeek
  std::int64_t value_head_dim = 0;    ///< decoupled form: 0: head_dim

  /// Projections from N(0, init_std^2) instead of xavier_uniform_; biases start at 0 either way.
  std::optional<double> init_std = {};
  std::optional<double> output_init_std = {};  ///< of the output projection; default init_std
  TensorOptions tensor = {};
  Generator* generator = nullptr;  ///< for initialisation and dropout; must outlive the layer
  KernelChoice kernel = {};        ///< of the attention; KernelScope speaks to norms and RoPE too
};

/// What differs from call to call.
struct AttentionCall {
  /// Holds the keys and values of the tokens before these, and afterwards theirs too. The caller advances it by the
  /// number of new tokens, once all layers that share it have run (KvCache::advance()).
  KvCache* cache = nullptr;
  std::int64_t cache_layer = 0;  ///< which of the cache's layers this one is
  /// (Tq, Tk), (B, Tq, Tk) or (B, H | 1, Tq, Tk), with the cached tokens among Tk: bool, false hides; floating point,
  /// added to the scores. @see AttentionOptions::mask
  Tensor mask = {};
  /// Positions of the queries, and of the keys unless those have their own: (T) or (B, T), i64 or i32. By default they
  /// count from 0, or on from what the cache holds.
  Tensor position_ids = {};
  Tensor key_position_ids = {};
};

/// Scaled dot-product attention with projections around it. Vaswani et al., arXiv 1706.03762.
class AttentionLayer : public Module {
 public:
  /// query (B, Tq, embed_dim), key (B, Tk, kdim), value (B, Tk, vdim) -> (B, Tq, embed_dim); T and B are swapped unless
  /// batch_first.
  /// @throws ShapeError, DtypeError, DeviceError; ConfigError when the cache is full; IndexError for a position beyond
  ///   max_seq_len.
  [[nodiscard]] Tensor forward(const Tensor& query, const Tensor& key, const Tensor& value,
                               const AttentionCall& call = {}) const;
  /// Attention of a sequence to itself.
  [[nodiscard]] Tensor forward(const Tensor& x, const AttentionCall& call = {}) const { return forward(x, x, x, call); }

  /// The sizes of what this layer keeps of a token.
  [[nodiscard]] virtual KvCacheOptions cache_options() const = 0;
  /// An empty cache for this layer alone; capacity 0 stands for max_seq_len.
  [[nodiscard]] KvCache make_cache(std::int64_t batch = 1, std::int64_t capacity = 0) const;

  [[nodiscard]] const AttentionLayerOptions& options() const { return options_; }

 protected:
  /// Fills in defaults, checks, and registers the norms and the position method. `name` is for errors.
  /// @throws ConfigError with the numbers of the options that do not fit.
  AttentionLayer(const char* name, const AttentionLayerOptions& options);

  /// For layers without a latent. @throws ConfigError for an option that speaks of one.
  void refuse_latent_options() const;

  /// forward() with checked inputs, batch first.
  [[nodiscard]] virtual Tensor compute(const Tensor& query, const Tensor& key, const Tensor& value,
                                       const AttentionCall& call) const = 0;

  // The common way, in steps ------------------------------------------------------------------------------------------

  [[nodiscard]] static TokenPlaces query_places(const AttentionCall& call);
  [[nodiscard]] static TokenPlaces key_places(const AttentionCall& call);
  /// qk_norm, then positions: q (B, Tq, H, D), k (B, Tk, Hkv, D).
  [[nodiscard]] std::pair<Tensor, Tensor> norm_and_place(const Tensor& q, const Tensor& k, const TokenPlaces& q_places,
                                                         const TokenPlaces& k_places) const;
  /// Attention with everything that the options ask for, all keys given: (B, Tq, H, Dv). `columns` decides the scale.
  [[nodiscard]] Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionCall& call,
                              std::int64_t columns) const;
  /// All of it for projected heads: norm, positions, cache, attention -> (B, Tq, H * Dv).
  [[nodiscard]] Tensor mix(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionCall& call) const;
  /// The same for one projection (B, T, (H + 2 Hkv) * D), without taking it apart where nothing stands between.
  [[nodiscard]] Tensor mix_packed(const Tensor& qkv, const AttentionCall& call) const;

  // Registered projections, initialised as the options say.
  [[nodiscard]] std::shared_ptr<Linear> project(const std::string& name, std::int64_t in, std::int64_t out,
                                                bool may_have_bias = true);
  [[nodiscard]] std::shared_ptr<Linear> project_output(const std::string& name, std::int64_t in);

  /// Where the options of a subclass are named in errors.
  [[nodiscard]] const char* name() const { return name_; }

 private:
  void validate() const;
  [[nodiscard]] AttentionOptions call_options(std::int64_t queries, std::int64_t keys, std::int64_t columns,
                                              const TensorOptions& like, const AttentionCall& call) const;
  [[nodiscard]] std::shared_ptr<Linear> add_linear(const std::string& name, const LinearOptions& options);

  const char* name_;
  AttentionLayerOptions options_;
  std::shared_ptr<Layer> q_norm_;
  std::shared_ptr<Layer> k_norm_;
  std::shared_ptr<PositionMethod> position_;
};

}  // namespace trinix::nn
