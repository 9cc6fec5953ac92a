// Matrix products of the CPU backend: our loop nest and the Eigen one, on 1 and 2 threads, beside the peak of the
// machine's multiply-add units as measured in registers. For example:
//   bench_gemm --benchmark_filter='1024x1024x1024' --benchmark_out=gemm.json

#include <algorithm>
#include <benchmark/benchmark.h>
#include <chrono>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <trinix/backends/cpu/gemm/gemm.h>
#include <trinix/core/threads.h>

namespace {

using trinix::DType;
using trinix::cpu::GemmArgs;

// The peak ------------------------------------------------------------------------------------------------------------
// Ten chains of multiply-adds hide the latency of four cycles on two units. They start from values that the compiler
// cannot know: it would merge chains that are equal.

#if defined(__x86_64__)
constexpr int kChains = 10;

__attribute__((target("avx512f"))) float chains_of_512(std::int64_t steps, const float* starts) {
  const __m512 x = _mm512_set1_ps(0.999F), y = _mm512_set1_ps(0.001F);
  __m512 chains[kChains];
#pragma GCC unroll 10
  for (int i = 0; i < kChains; ++i) chains[i] = _mm512_set1_ps(starts[i]);
  for (std::int64_t s = 0; s < steps; ++s) {
#pragma GCC unroll 10
    for (int i = 0; i < kChains; ++i) chains[i] = _mm512_fmadd_ps(chains[i], x, y);
  }
  __m512 sum = chains[0];
#pragma GCC unroll 10
  for (int i = 1; i < kChains; ++i) sum = _mm512_add_ps(sum, chains[i]);
  return _mm512_cvtss_f32(sum);
}

__attribute__((target("avx2,fma"))) float chains_of_256(std::int64_t steps, const float* starts) {
  const __m256 x = _mm256_set1_ps(0.999F), y = _mm256_set1_ps(0.001F);
  __m256 chains[kChains];
#pragma GCC unroll 10
  for (int i = 0; i < kChains; ++i) chains[i] = _mm256_set1_ps(starts[i]);
  for (std::int64_t s = 0; s < steps; ++s) {
#pragma GCC unroll 10
    for (int i = 0; i < kChains; ++i) chains[i] = _mm256_fmadd_ps(chains[i], x, y);
  }
  __m256 sum = chains[0];
#pragma GCC unroll 10
  for (int i = 1; i < kChains; ++i) sum = _mm256_add_ps(sum, chains[i]);
  return _mm256_cvtss_f32(sum);
}
#endif

/// GFLOP/s of f32 multiply-adds on one core: the best of several tries, since other programs may run beside this one.
double measured_peak() {
#if defined(__x86_64__)
  const bool wide = __builtin_cpu_supports("avx512f");
  if (!wide && !(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))) return 0;
  constexpr std::int64_t steps = 2'000'000;
  float starts[kChains];
  for (int i = 0; i < kChains; ++i) starts[i] = 0.1F * static_cast<float>(i);
  benchmark::DoNotOptimize(starts);
  double best = 0;
  for (int round = 0; round < 20; ++round) {
    const auto start = std::chrono::steady_clock::now();
    benchmark::DoNotOptimize(wide ? chains_of_512(steps, starts) : chains_of_256(steps, starts));
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, 1e-9 * kChains * 2 * (wide ? 16 : 8) * steps / seconds.count());
  }
  return best;
#else
  return 0;
#endif
}

double peak() {
  static const double value = measured_peak();
  return value;
}

// The products --------------------------------------------------------------------------------------------------------

struct Shape {
  std::int64_t m, n, k;
  bool a_transposed, b_transposed;
};

using Multiply = void (*)(const GemmArgs&);

void product(benchmark::State& state, const Shape& s, DType dtype, int threads, Multiply multiply) {
  const std::size_t size = trinix::size_of(dtype);
  const auto random_matrix = [&](std::int64_t count) {
    std::vector<char> bytes(static_cast<std::size_t>(count) * size);
    std::mt19937 generator(1);
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (std::int64_t i = 0; i < count; ++i) {
      const float value = uniform(generator);
      char* to = bytes.data() + static_cast<std::size_t>(i) * size;
      if (dtype == DType::f32) *reinterpret_cast<float*>(to) = value;
      if (dtype == DType::f64) *reinterpret_cast<double*>(to) = value;
      if (dtype == DType::bf16) *reinterpret_cast<trinix::bfloat16*>(to) = trinix::bfloat16(value);
    }
    return bytes;
  };
  const std::vector<char> a = random_matrix(s.m * s.k), b = random_matrix(s.k * s.n);
  std::vector<char> c(static_cast<std::size_t>(s.m * s.n) * size);
  const GemmArgs args{.m = s.m,
                      .n = s.n,
                      .k = s.k,
                      .a = {a.data(), dtype, s.a_transposed ? 1 : s.k, s.a_transposed ? s.m : 1},
                      .b = {b.data(), dtype, s.b_transposed ? 1 : s.n, s.b_transposed ? s.k : 1},
                      .c = {c.data(), dtype, s.n, 1}};
  trinix::set_num_threads(threads);
  multiply(args);
  // Best and median of the calls within a run tell the kernel apart from its neighbours on the machine.
  std::vector<double> seconds;
  for (auto _ : state) {
    const auto start = std::chrono::steady_clock::now();
    multiply(args);
    benchmark::ClobberMemory();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  trinix::set_num_threads(0);
  std::sort(seconds.begin(), seconds.end());
  const double gflop = 2e-9 * static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k);
  const double of_peak = peak() * threads * (dtype == DType::f64 ? 0.5 : 1);
  state.counters["median_GFLOPs"] = gflop / seconds[seconds.size() / 2];
  state.counters["best_GFLOPs"] = gflop / seconds.front();
  if (of_peak > 0) state.counters["best_of_peak"] = gflop / seconds.front() / of_peak;
}

void register_products() {
  constexpr Shape shapes[] = {
      {768, 128, 384, false, true},    {768, 512, 128, false, true},     {2048, 384, 1152, false, true},
      {2048, 384, 1536, false, true},  {2048, 1536, 384, false, true},   {384, 1152, 2048, true, false},
      {2048, 384, 1152, false, false}, {1024, 1024, 1024, false, false}, {1024, 1024, 1024, false, true},
      {64, 256, 64, false, false},     {64, 64, 64, false, true},        {1, 1536, 384, false, true},
      {1, 1536, 384, false, false},    {8, 1536, 384, false, true},      {2048, 1, 384, false, false},
  };
  struct Implementation {
    const char* name;
    Multiply multiply;
  };
  constexpr Implementation implementations[] = {{"trinix", trinix::cpu::gemm}, {"eigen", trinix::cpu::gemm_eigen}};
  for (const Shape& s : shapes) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
      for (const Implementation& implementation : implementations) {
        if (dtype == DType::bf16 && implementation.multiply == trinix::cpu::gemm_eigen) continue;
        for (const int threads : {1, 2}) {
          const std::string name = std::string(implementation.name) + "/" + std::string(trinix::name(dtype)) + "/" +
                                   std::to_string(s.m) + "x" + std::to_string(s.n) + "x" + std::to_string(s.k) +
                                   (s.a_transposed ? "/T" : "/N") + (s.b_transposed ? "T" : "N") +
                                   "/threads:" + std::to_string(threads);
          benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
            product(state, s, dtype, threads, implementation.multiply);
          })->UseRealTime();
        }
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  benchmark::AddCustomContext("peak of one core, GFLOP/s of f32", std::to_string(peak()));
  register_products();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
