// Fits y = sin(3x) with one hidden layer, written with nothing but tensors and gradients.
#include <cstdio>

#include <trinix/trinix.h>

int main() {
  using namespace trinix;
  manual_seed(1);
  const Tensor x = linspace(-1, 1, 64).reshape({64, 1});
  const Tensor y = sin(x * 3.0);
  Tensor w1 = randn({32, 1});
  Tensor b1 = randn({32});
  Tensor w2 = randn({1, 32}) * 0.1;
  Tensor b2 = zeros({1});
  for (Tensor* parameter : {&w1, &b1, &w2, &b2}) parameter->requires_grad_();

  float first = 0;
  float last = 0;
  for (int step = 0; step < 500; ++step) {
    const Tensor prediction = linear(tanh(linear(x, w1, b1)), w2, b2);
    const Tensor loss = mse_loss(prediction, y);
    loss.backward();
    const NoGrad no_grad;
    for (Tensor* parameter : {&w1, &b1, &w2, &b2}) {
      sub_(*parameter, parameter->grad() * 0.1);
      parameter->zero_grad();
    }
    last = loss.item<float>();
    if (step == 0) first = last;
  }
  std::printf("loss %.4f -> %.4f\n", static_cast<double>(first), static_cast<double>(last));

  try {
    static_cast<void>(matmul(ones({2, 3}), ones({4, 5})));
  } catch (const ShapeError& error) {
    std::printf("%s\n", error.what());
    return last < first / 10 ? 0 : 1;
  }
  return 1;
}
