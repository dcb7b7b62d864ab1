//! Gives the shared library its name for the run-time linker.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let var = |name: &str| std::env::var(name).unwrap_or_default();
    // Goes up when the ABI breaks, which 0.x does not do by itself: structs grow at their ends.
    let major = var("CARGO_PKG_VERSION_MAJOR");
    match var("CARGO_CFG_TARGET_OS").as_str() {
        "linux" | "android" | "freebsd" => {
            println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libwsabi.so.{major}");
            // A thread that resolves a name may outlive a dlclose of its code.
            println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
        }
        "macos" => {
            println!("cargo:rustc-cdylib-link-arg=-Wl,-install_name,@rpath/libwsabi.{major}.dylib");
        }
        _ => {}
    }
}
