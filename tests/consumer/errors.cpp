// Catches an error of the library in code that was compiled elsewhere, and draws from a generator.
#include <cstdio>

#include <trinix/trinix.h>

int main() {
  using namespace trinix;
  try {
    static_cast<void>(matmul(ones({2, 3}), ones({4, 5})));
  } catch (const ShapeError& error) {
    std::printf("%s\n", error.what());
    return gradcheck([](const std::vector<Tensor>& in) { return exp(in[0]); },
                     {randn({3}, {.dtype = DType::f64, .requires_grad = true})})
               ? 0
               : 1;
  }
  return 1;
}
