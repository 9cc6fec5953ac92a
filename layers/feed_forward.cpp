#include <trinix/autograd/ops/linear_gelu.h>
#include <trinix/autograd/ops/unary.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/layers/feed_forward.h>

namespace trinix::nn {

namespace {

FeedForwardOptions completed(const char* name, FeedForwardOptions o, std::int64_t hidden) {
  if (o.hidden_dim == 0) o.hidden_dim = hidden;
  if (o.dim < 1 || o.hidden_dim < 1) {
    detail::fail<ConfigError>(name, "dim {} and hidden_dim {} must be positive", o.dim, o.hidden_dim);
  }
  return o;
}

std::shared_ptr<Linear> linear(const FeedForwardOptions& o, std::int64_t in, std::int64_t out,
                               std::optional<double> std) {
  return std::make_shared<Linear>(LinearOptions{.in_features = in,
                                                .out_features = out,
                                                .bias = o.bias,
                                                .init_std = std,
                                                .tensor = o.tensor,
                                                .generator = o.generator});
}

std::shared_ptr<Linear> projection_back(const FeedForwardOptions& o) {
  return linear(o, o.hidden_dim, o.dim, o.output_init_std ? o.output_init_std : o.init_std);
}

std::shared_ptr<Dropout> output_dropout(const FeedForwardOptions& o) {
  return std::make_shared<Dropout>(DropoutOptions{.p = o.dropout, .generator = o.generator});
}

}  // namespace

std::int64_t gated_hidden(std::int64_t dim) { return (8 * dim + 23) / 24 * 8; }

FeedForward::FeedForward(const FeedForwardOptions& options) : FeedForward("up_proj", "down_proj", options) {}

FeedForward::FeedForward(const char* up, const char* down, const FeedForwardOptions& options)
    : activation_(options.activation) {
  const FeedForwardOptions o = completed("FeedForward", options, 4 * options.dim);
  up_ = register_module(up, linear(o, o.dim, o.hidden_dim, o.init_std));
  down_ = register_module(down, projection_back(o));
  dropout_ = register_module("dropout", output_dropout(o));
}

Tensor FeedForward::forward(const Tensor& x) const {
  if (activation_ == Activation::gelu_tanh) {
    return dropout_->forward(gelu_mlp(x, up_->weight(), up_->bias(), down_->weight(), down_->bias()));
  }
  return dropout_->forward(down_->forward(activate(up_->forward(x), activation_)));
}

GatedFeedForward::GatedFeedForward(const FeedForwardOptions& options) : gate_(options.gate), kernel_(options.kernel) {
  const FeedForwardOptions o = completed("GatedFeedForward", options, gated_hidden(options.dim));
  gate_proj_ = register_module("gate_proj", linear(o, o.dim, o.hidden_dim, o.init_std));
  up_proj_ = register_module("up_proj", linear(o, o.dim, o.hidden_dim, o.init_std));
  down_proj_ = register_module("down_proj", projection_back(o));
  dropout_ = register_module("dropout", output_dropout(o));
}

Tensor GatedFeedForward::forward(const Tensor& x) const {
  const Tensor hidden = glu(gate_proj_->forward(x), up_proj_->forward(x), gate_, kernel_);
  return dropout_->forward(down_proj_->forward(hidden));
}

}  // namespace trinix::nn
