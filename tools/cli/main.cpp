#include <cstdio>
#include <string_view>

#include <trinix/version.h>

int main(int argc, char** argv) {
  if (argc == 2 && std::string_view(argv[1]) == "--version") {
    std::puts("trinix " TRINIX_VERSION);
    return 0;
  }
  std::fputs("usage: trinix --version\n", stderr);
  return 2;
}
