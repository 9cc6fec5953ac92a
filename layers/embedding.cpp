#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/ops/comparison.h>
#include <trinix/autograd/ops/indexing.h>
#include <trinix/autograd/ops/random.h>
#include <trinix/autograd/ops/unary.h>
#include <trinix/autograd/record.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/layers/embedding.h>

namespace trinix::nn {

Embedding::Embedding(const EmbeddingOptions& o) : padding_idx_(o.padding_idx) {
  if (o.num_embeddings < 1 || o.embedding_dim < 1) {
    detail::fail<ConfigError>("Embedding", "num_embeddings {} and embedding_dim {} must be positive", o.num_embeddings,
                              o.embedding_dim);
  }
  if (o.padding_idx && (*o.padding_idx < 0 || *o.padding_idx >= o.num_embeddings)) {
    detail::fail<ConfigError>("Embedding", "padding_idx {} is not one of the {} rows", *o.padding_idx,
                              o.num_embeddings);
  }
  const NoGrad no_grad;
  weight_ = empty({o.num_embeddings, o.embedding_dim}, o.tensor);
  normal_(weight_, 0, o.init_std, o.generator);
  if (o.padding_idx) zero_(weight_.select(0, *o.padding_idx));
  register_parameter("weight", weight_);
}

Tensor Embedding::forward(const Tensor& indices) const {
  const Tensor rows = embedding(indices, weight_);
  if (!padding_idx_ || !needs_grad({rows})) return rows;
  return where((indices == *padding_idx_).unsqueeze(-1), rows.detach(), rows);  // the gradient takes the other way
}

}  // namespace trinix::nn
