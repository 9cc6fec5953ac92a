#include <trinix/autograd/grad_mode.h>
#include <trinix/autograd/ops/indexing.h>
#include <trinix/autograd/ops/random.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/layers/embedding.h>

namespace trinix::nn {

Embedding::Embedding(const EmbeddingOptions& o) {
  if (o.num_embeddings < 1 || o.embedding_dim < 1) {
    detail::fail<ConfigError>("Embedding", "num_embeddings {} and embedding_dim {} must be positive", o.num_embeddings,
                              o.embedding_dim);
  }
  const NoGrad no_grad;
  weight_ = empty({o.num_embeddings, o.embedding_dim}, o.tensor);
  normal_(weight_, 0, o.init_std, o.generator);
  register_parameter("weight", weight_);
}

Tensor Embedding::forward(const Tensor& indices) const { return embedding(indices, weight_); }

}  // namespace trinix::nn
