#include <trinix/core/capture.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/generator.h>

namespace trinix {

void Generator::manual_seed(std::uint64_t seed) {
  if (Capture::current() != nullptr) {
    detail::fail<CaptureError>("manual_seed",
                               "a generator was seeded while a step is being captured, which would happen once and "
                               "not in every step; seed it before the step");
  }
  set_state({seed, 0, nullptr});
}

RandomState Generator::reserve(std::uint64_t count) {
  RandomState begin = skip((count + 3) / 4);
  if (Capture* capture = Capture::current()) begin.extra = capture->random_word(*this, begin);
  return begin;
}

Generator& default_generator() {
  static Generator generator;
  return generator;
}

void manual_seed(std::uint64_t seed) { default_generator().manual_seed(seed); }

}  // namespace trinix
