"""Gates on the header: it compiles everywhere, and says what the library exports."""

import re

from harness import BUILD, CC, CXX, INCLUDE, ROOT, STRICT, run

SYMBOLS = INCLUDE / "wsabi.symbols"

C_TWICE = '#include "wsabi.h"\n#include "wsabi.h"\nint unit(void);\nint unit(void) { return 0; }\n'
CXX_USE = """#include "wsabi.hpp"
#include "wsabi.hpp"
int UNIT() {
  wsabi::Loop loop;
  wsabi::ServerOptions options;
  options.handlers.on_message = [](wsabi::Conn conn, const wsabi::Message& message) {
    conn.send_text(message.data);
    conn.send_owned(message.type, std::string(message.data));
    conn.send_owned(message.type, std::make_shared<const std::vector<unsigned char>>(3));
  };
  options.handlers.on_chunk = [](wsabi::Conn conn, const wsabi::Chunk& chunk) {
    conn.send_fragment(chunk.type, chunk.data, chunk.last);
  };
  options.deflate = wsabi::Deflate{};
  loop.post([] {});
  wsabi::Server server = loop.listen(options);
  server.broadcast(wsabi::Prepared::owned(wsabi::MessageType::text, std::string("to all")));
  loop.broadcast(wsabi::Prepared(wsabi::MessageType::text, "to some"), std::vector<wsabi::Conn>());
  return server.port();
}
"""


def compiles(results, name, compiler, text, suffix, flags):
    source = BUILD / "header" / f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}{suffix}"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(text)
    command = [*compiler, *STRICT, *flags, f"-I{INCLUDE}", "-c", source]
    results.command(name, [*command, "-o", source.with_suffix(".o")])


def compile_gates(results):
    alone = '#include "wsabi.h"\ntypedef int not_empty;\n'
    pedantic = ["-pedantic"]
    compiles(results, "header alone, C99", CC, alone, ".c", ["-std=c99", *pedantic])
    compiles(results, "header twice, C99", CC, C_TWICE, ".c", ["-std=c99", *pedantic])
    compiles(results, "header twice, C17", CC, C_TWICE, ".c", ["-std=c17", *pedantic])
    compiles(results, "header without hidden padding", CC, alone, ".c", ["-std=c99", "-Wpadded"])
    for standard in ("c++11", "c++17"):
        compiles(results, f"header twice, {standard}", CXX, C_TWICE, ".cpp", [f"-std={standard}", *pedantic])
    flags = ["-std=c++17", "-Wpedantic", "-Wshadow", "-Wconversion"]
    compiles(results, "wsabi.hpp without RTTI", CXX, CXX_USE.replace("UNIT", "unit"), ".cpp", [*flags, "-fno-rtti"])


def two_units(results, library, native):
    """wsabi.hpp in two translation units of one program."""
    folder = BUILD / "header"
    main = CXX_USE.replace("UNIT", "one") + "int two();\nint main() { return one() && two() ? 0 : 1; }\n"
    (folder / "one.cpp").write_text(main)
    (folder / "two.cpp").write_text(CXX_USE.replace("UNIT", "two"))
    command = [*CXX, "-std=c++17", *STRICT, "-Wpedantic", f"-I{INCLUDE}", folder / "one.cpp", folder / "two.cpp"]
    if results.command("wsabi.hpp in two units", [*command, "-o", folder / "units", library, *native]):
        results.command("wsabi.hpp in two units, run", [folder / "units"])


def declared():
    """The functions the header declares."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", (INCLUDE / "wsabi.h").read_text(), flags=re.S)
    text = re.sub(r"^\s*#[^\n]*(?:\\\n[^\n]*)*", "", text, flags=re.M)
    return set(re.findall(r"\b(wsabi_\w+)\s*\(", text))


def exported(shared):
    """All symbols the library defines for others, or None with nm's words."""
    code, output = run(["nm", "-D", "--defined-only", shared])
    if code != 0:
        return None, output
    return {line.split()[-1].split("@")[0] for line in output.splitlines() if line.strip()}, output


def difference(one, other, here, there):
    lines = [f"{name}: only {here}" for name in sorted(one - other)]
    return "\n".join(lines + [f"{name}: only {there}" for name in sorted(other - one)])


def symbol_gates(results, shared):
    in_header = declared()
    in_library, output = exported(shared)
    if in_library is None:
        results.fail("exported symbols", output)
        return
    text = difference(in_header, in_library, "in the header", "exported")
    results.check("functions of the header are the exported symbols", in_header and not text, text)
    committed = set(SYMBOLS.read_text().split()) if SYMBOLS.exists() else set()
    text = difference(committed, in_library, f"in {SYMBOLS.relative_to(ROOT)}", "exported (run.py --bless)")
    results.check("include/wsabi.symbols are the exported symbols", committed and not text, text)
    ordered = SYMBOLS.exists() and SYMBOLS.read_text() == listing(committed)
    results.check("include/wsabi.symbols is sorted, one name a line", ordered)


def listing(names):
    return "".join(f"{name}\n" for name in sorted(names))


def bless(shared):
    names, output = exported(shared)
    if names is None:
        raise SystemExit(output)
    SYMBOLS.write_text(listing(names))
    print(f"{SYMBOLS.relative_to(ROOT)}: {len(names)} symbols")
