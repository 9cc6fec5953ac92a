// The example of README.md.
#include <cstdio>
#include <memory>

#include <trinix/trinix.h>

int main() {
  using namespace trinix;
  manual_seed(1);
  const Tensor x = linspace(-1, 1, 256).reshape({256, 1});
  const Tensor y = sin(x * 5.0);

  using nn::Linear, nn::LinearOptions;
  const nn::Sequential model(std::make_shared<Linear>(LinearOptions{.in_features = 1, .out_features = 64}),
                             std::make_shared<nn::GELU>(),
                             std::make_shared<Linear>(LinearOptions{.in_features = 64, .out_features = 1}));
  optim::AdamW optimizer(model.parameters(), {.lr = 0.01});

  double last = 0;
  for (int step = 0; step < 1000; ++step) {
    const Tensor loss = mse_loss(model(x), y);
    loss.backward();
    optim::clip_grad_norm_(model.parameters(), 1.0);
    optimizer.step();
    optimizer.zero_grad();
    last = loss.item<double>();
    if (step % 200 == 0) std::printf("step %3d  loss %.5f\n", step, last);
  }
  std::printf("final loss %.5f\n", last);
  return last < 0.01 ? 0 : 1;
}
