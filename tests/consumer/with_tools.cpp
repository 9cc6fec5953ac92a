// Links trinix::tools and uses a piece of it.
#include <cstdio>
#include <string>

#include <trinix/tools/lib/tokenizer.h>
#include <trinix/version.h>

int main() {
  const std::string text = "to be or not to be";
  const trinix::tools::CharTokenizer tokenizer(text);
  const auto ids = tokenizer.encode(text);
  std::printf("trinix %s: %zu tokens of %lld kinds\n", TRINIX_VERSION, ids.size(),
              static_cast<long long>(tokenizer.vocab_size()));
  return tokenizer.decode(ids) == text ? 0 : 1;
}
