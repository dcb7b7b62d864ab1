"""Installs into a fresh prefix, moves that elsewhere, builds strangers' programs against it by
pkg-config and by CMake, and lets them talk."""

import re
import shutil
import subprocess
import threading
from pathlib import Path

from harness import BUILD, CC, CXX, ROOT, missing, pkg_config, run

INSTALL = ROOT / "ffi" / "install.sh"
SERVER = ROOT / "examples" / "c" / "minimal.c"
CLIENT = ROOT / "examples" / "cpp" / "demo-client.cpp"

CMAKE_LISTS = f"""cmake_minimum_required(VERSION 3.13)
project(stranger C CXX)
find_package(wsabi VERSION CONFIG REQUIRED COMPONENTS shared static)
foreach(kind "" _static)
  add_executable(server${{kind}} "{SERVER}")
  target_link_libraries(server${{kind}} wsabi::wsabi${{kind}})
  add_executable(client${{kind}} "{CLIENT}")
  target_link_libraries(client${{kind}} wsabi::wsabi${{kind}})
  target_compile_features(client${{kind}} PRIVATE cxx_std_17)
endforeach()
"""


def version():
    text = (ROOT / "Cargo.toml").read_text()
    section = text.split("[workspace.package]", 1)[1].split("\n[", 1)[0]
    return re.search(r'^version\s*=\s*"([^"]+)"', section, re.M)[1]


def files_below(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()}


def suite(results):
    home = BUILD / "install"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    first, prefix = home / "first", home / "moved"
    if not results.command("install", ["sh", INSTALL, "install", first]):
        return
    first.rename(prefix)
    results.check("install: the files", *expected_files(prefix))
    links(results, prefix)
    if missing("pkg-config"):
        results.skip("programs by pkg-config", "pkg-config", "pkg-config")
    else:
        by_pkg_config(results, home / "pkg-config", prefix)
        other_folders(results, home)
    if missing("cmake"):
        results.skip("programs by CMake", "cmake", "cmake")
    else:
        by_cmake(results, home / "cmake", prefix)
        cmake_versions(results, home / "cmake-find", prefix)
    if results.command("uninstall", ["sh", INSTALL, "uninstall", prefix]):
        left = files_below(prefix) | {str(p) for p in prefix.rglob("*wsabi*")}
        results.check("uninstall leaves nothing", not left, "\n".join(sorted(left)))


def expected_files(prefix):
    v = version()
    expected = {
        "include/wsabi.h",
        "include/wsabi.hpp",
        "lib/libwsabi.so",
        f"lib/libwsabi.so.{v.split('.')[0]}",
        f"lib/libwsabi.so.{v}",
        "lib/libwsabi.a",
        "lib/pkgconfig/wsabi.pc",
        "lib/cmake/wsabi/wsabiConfig.cmake",
        "lib/cmake/wsabi/wsabiConfigVersion.cmake",
        "share/doc/wsabi/LICENSE-MIT",
        "share/doc/wsabi/LICENSE-APACHE",
    }
    found = files_below(prefix)
    return found == expected, f"missing: {sorted(expected - found)}\nunexpected: {sorted(found - expected)}"


def dynamic(binary):
    """The dynamic section, in readelf's words."""
    return run(["readelf", "-d", binary])[1]


def links(results, prefix):
    if missing("readelf"):
        results.skip("SONAME and links", "readelf", "binutils")
        return
    lib, v = prefix / "lib", version()
    soname = f"libwsabi.so.{v.split('.')[0]}"
    section = dynamic(lib / f"libwsabi.so.{v}")
    results.check("SONAME", f"soname: [{soname}]" in section, section)
    chain = {name: str((lib / name).readlink()) for name in ("libwsabi.so", soname) if (lib / name).is_symlink()}
    results.check("links", chain == {"libwsabi.so": soname, soname: f"libwsabi.so.{v}"}, str(chain))
    needed = re.findall(r"NEEDED.*\[(.*)\]", section)
    outsiders = [name for name in needed if not re.match(r"lib(gcc_s|c|m)\.so|ld-linux", name)]
    results.check("needs nothing but the C library", needed and not outsiders, str(outsiders))


def build_pair(results, name, folder, c_flags, libs):
    """The server in C and the client in C++. Answers their paths, or None."""
    folder.mkdir(parents=True, exist_ok=True)
    server, client = folder / "server", folder / "client"
    built = results.command(f"{name}: C", [*CC, SERVER, *c_flags, *libs, "-o", server])
    built &= results.command(f"{name}: C++", [*CXX, "-std=c++17", CLIENT, *c_flags, *libs, "-o", client])
    return (server, client) if built else None


def by_pkg_config(results, folder, prefix):
    env = {"PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig")}
    flags = pkg_config("--cflags", "wsabi", env=env)
    results.check("pkg-config: version", pkg_config("--modversion", "wsabi", env=env) == [version()])
    if flags is None:
        results.fail("pkg-config knows wsabi")
        return
    shared = pkg_config("--libs", "wsabi", env=env)
    pair = build_pair(results, "pkg-config, shared", folder / "shared", flags, shared)
    conversation(results, "pkg-config, shared", pair, prefix, uses_shared=True)
    # The linker prefers a shared library of the same name, so the static one is named in full.
    static = pkg_config("--static", "--libs", "wsabi", env=env)
    static = ["-l:libwsabi.a" if flag == "-lwsabi" else flag for flag in static]
    pair = build_pair(results, "pkg-config, static", folder / "static", flags, static)
    conversation(results, "pkg-config, static", pair, prefix, uses_shared=False)


def other_folders(results, home):
    """DESTDIR and LIBDIR: what is written lies there, and finds its way back."""
    staged = home / "staged"
    env = {"DESTDIR": str(staged), "LIBDIR": "/opt/wsabi/lib/some-triplet"}
    command = ["sh", INSTALL, "install", "/opt/wsabi"]
    if not results.command("install with DESTDIR and LIBDIR", command, env=env):
        return
    pc = staged / "opt/wsabi/lib/some-triplet/pkgconfig"
    flags = pkg_config("--cflags-only-I", "wsabi", env={"PKG_CONFIG_PATH": str(pc)}) or ["-I/nowhere"]
    header = Path(flags[0][2:]) / "wsabi.h"
    expected = staged / "opt/wsabi/include/wsabi.h"
    results.check("LIBDIR: pkg-config leads to the header", header.resolve() == expected, str(flags))
    libs = pkg_config("--libs-only-L", "wsabi", env={"PKG_CONFIG_PATH": str(pc)}) or ["-L/nowhere"]
    found = (Path(libs[0][2:]) / "libwsabi.so").exists()
    results.check("LIBDIR: pkg-config leads to the library", found, str(libs))
    results.command("uninstall with DESTDIR and LIBDIR", ["sh", INSTALL, "uninstall", "/opt/wsabi"], env=env)
    results.check("uninstall with DESTDIR leaves nothing", not files_below(staged), str(files_below(staged)))


def by_cmake(results, folder, prefix):
    folder.mkdir(parents=True)
    series = ".".join(version().split(".")[:2])
    (folder / "CMakeLists.txt").write_text(CMAKE_LISTS.replace("VERSION CONFIG", f"{series} CONFIG"))
    build = folder / "build"
    configure = ["cmake", "-S", folder, "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}"]
    if not results.command("CMake: configure", configure):
        return
    if not results.command("CMake: build", ["cmake", "--build", build]):
        return
    pair = (build / "server", build / "client")
    conversation(results, "CMake, wsabi::wsabi", pair, prefix, uses_shared=True)
    pair = (build / "server_static", build / "client_static")
    conversation(results, "CMake, wsabi::wsabi_static", pair, prefix, uses_shared=False)


def cmake_versions(results, folder, prefix):
    """Which versions and components find_package takes, and which it refuses."""
    v = version()
    major, minor, _ = v.split(".")
    cases = [(v, True), (f"{major}.{minor}", True), (f"{v} EXACT", True), ("", True)]
    cases += [(f"{major}.{int(minor) + 1}", False), (f"{int(major) + 1}.0", False), (f"{v}.1", False)]
    cases += [("COMPONENTS static", True), ("COMPONENTS quantum", False), (f"{major}.{minor}...{major}.99", True)]
    for number, (wanted, expected) in enumerate(cases):
        source = folder / str(number)
        source.mkdir(parents=True)
        lists = "cmake_minimum_required(VERSION 3.19)\nproject(find NONE)\n"
        lists += f"find_package(wsabi {wanted} CONFIG REQUIRED)\n"
        (source / "CMakeLists.txt").write_text(lists)
        code, output = run(["cmake", "-S", source, "-B", source / "build", f"-DCMAKE_PREFIX_PATH={prefix}"])
        verdict = "found" if expected else "refused"
        results.check(f"CMake: find_package(wsabi {wanted}) is {verdict}", (code == 0) == expected, output)


def conversation(results, name, pair, prefix, uses_shared):
    """The client's three messages come back from the server; both use the library they should."""
    if pair is None:
        return
    server, client = pair
    for binary in pair if not missing("readelf") else ():
        needs = f"[libwsabi.so.{version().split('.')[0]}]" in dynamic(binary)
        results.check(f"{name}: {binary.name} links as it should", needs == uses_shared, dynamic(binary))
    env = {"LD_LIBRARY_PATH": str(prefix / "lib")} if uses_shared else {}
    results.check(f"{name}: an echo", *echo(server, client, env))


def echo(server, client, env):
    process = subprocess.Popen(
        ["env", *(f"{k}={v}" for k, v in env.items()), str(server), "0"], stdout=subprocess.PIPE, text=True
    )
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    try:
        line = process.stdout.readline()
        found = re.search(r"ws://\S+", line)
        if not found:
            return False, f"the server said {line!r}"
        code, output = run([client, found[0], "it"], timeout=60, env=env)
        return code == 0 and output.count("it <- ") == 3, output
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
