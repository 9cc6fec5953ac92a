#include <trinix/autograd/grad_mode.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/layers/kv_cache.h>

namespace trinix::nn {

using detail::fail;

KvCache::KvCache(const KvCacheOptions& o) : options_(o), value_dim_(o.value_dim.value_or(o.head_dim)) {
  if (o.layers < 1 || o.batch < 1 || o.capacity < 1 || o.heads < 1 || o.head_dim < 1 || value_dim_ < 0) {
    fail<ConfigError>("KvCache", "layers {}, batch {}, capacity {}, heads {} and head_dim {} must all be positive",
                      o.layers, o.batch, o.capacity, o.heads, o.head_dim);
  }
  const TensorOptions tensor{o.tensor.dtype, o.tensor.device};
  for (std::int64_t i = 0; i < o.layers; ++i) {
    keys_.push_back(empty({o.batch, o.heads, o.capacity, o.head_dim}, tensor));
    if (value_dim_ > 0) values_.push_back(empty({o.batch, o.heads, o.capacity, value_dim_}, tensor));
  }
}

std::int64_t KvCache::bytes() const {
  std::int64_t sum = 0;
  for (const auto* list : {&keys_, &values_}) {
    for (const Tensor& t : *list) sum += t.numel() * static_cast<std::int64_t>(size_of(t.dtype()));
  }
  return sum;
}

std::pair<Tensor, Tensor> KvCache::append(std::int64_t layer, const Tensor& keys, const Tensor& values) {
  if (layer < 0 || layer >= options_.layers) {
    fail<IndexError>("KvCache", "layer {} of a cache for {} layers", layer, options_.layers);
  }
  const std::int64_t tokens = keys.rank() == 4 ? keys.size(1) : -1;
  const auto fits = [&](const Tensor& t, std::int64_t dim) {
    return t.shape() == Shape{options_.batch, tokens, options_.heads, dim};
  };
  const bool has_values = value_dim_ > 0;
  if (!fits(keys, options_.head_dim) || values.defined() != has_values || (has_values && !fits(values, value_dim_))) {
    fail<ShapeError>("KvCache",
                     "keys {} and values {} do not fit a cache of batch {}, heads {}, head_dim {} and value_dim {}",
                     keys.shape(), values.defined() ? values.shape().to_string() : "none", options_.batch,
                     options_.heads, options_.head_dim, value_dim_);
  }
  if (length_ + tokens > options_.capacity) {
    fail<ConfigError>("KvCache", "{} tokens behind the {} held exceed the capacity of {}: clear() or truncate() first",
                      tokens, length_, options_.capacity);
  }
  if (grad_enabled() && (keys.requires_grad() || (has_values && values.requires_grad()))) {
    fail<AutogradError>("KvCache", "a cache keeps no history, so gradients would stop at it: decode under NoGrad");
  }
  const NoGrad no_grad;
  const auto store = [&](const Tensor& memory, const Tensor& fresh) {
    memory.narrow(2, length_, tokens).copy_(fresh.detach().permute({0, 2, 1, 3}));
    return memory.narrow(2, 0, length_ + tokens).permute({0, 2, 1, 3});
  };
  const auto l = static_cast<std::size_t>(layer);
  return {store(keys_[l], keys), has_values ? store(values_[l], values) : Tensor()};
}

void KvCache::advance(std::int64_t tokens) {
  if (tokens < 0 || length_ + tokens > options_.capacity) {
    fail<ConfigError>("KvCache", "cannot advance by {} from {} in a capacity of {}", tokens, length_,
                      options_.capacity);
  }
  length_ += tokens;
}

void KvCache::truncate(std::int64_t length) {
  if (length < 0 || length > length_) {
    fail<ConfigError>("KvCache", "cannot truncate to {} tokens: {} are held", length, length_);
  }
  length_ = length;
}

}  // namespace trinix::nn
