//! Manifests, indexes and names (security.md, row "manifests").

use super::*;

fn refused(home: &Home, words: &str) {
    let error = home.prepare(DEMO).unwrap_err().to_string();
    assert!(error.contains(words), "{error}\nexpected: {words}");
    home.left_nothing();
}

/// A home with one good image, and its descriptor.
fn good() -> (Home, Value) {
    let home = Home::new();
    let image = home.put_image(&[(GZIP, &tar([file("a", b"1")]))]);
    home.write_index(&[named(image.clone(), DEMO)]);
    (home, image)
}

fn blob(home: &Home, descriptor: &Value) -> PathBuf {
    home.path("layout/blobs/sha256").join(&descriptor["digest"].as_str().unwrap()["sha256:".len()..])
}

fn read(home: &Home, descriptor: &Value) -> Value {
    serde_json::from_slice(&fs::read(blob(home, descriptor)).unwrap()).unwrap()
}

#[test]
fn every_byte_is_verified() {
    for of in ["manifest", "config", "layer"] {
        let (home, image) = good();
        let manifest = read(&home, &image);
        let descriptor = match of {
            "manifest" => &image,
            "config" => &manifest["config"],
            _ => &manifest["layers"][0],
        };
        let path = blob(&home, descriptor);
        let mut bytes = fs::read(&path).unwrap();
        let original = bytes.clone();

        // Flipped where the content still parses: JSON between words, gzip in the header's time stamp.
        if of == "layer" {
            bytes[5] ^= 1;
        } else {
            let at = bytes.windows(2).position(|w| w == b"{\"").unwrap();
            bytes.insert(at + 1, b' ');
            bytes.pop();
            bytes.push(b'}');
        }
        fs::write(&path, &bytes[..original.len()]).unwrap();
        refused(&home, "its content is sha256:");
        fs::write(&path, [original.as_slice(), b" "].concat()).unwrap();
        refused(&home, "its descriptor says");
        fs::remove_file(&path).unwrap();
        refused(&home, "missing in");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        refused(&home, "not a regular file");
        fs::remove_file(&path).unwrap();
        fs::write(&path, &original).unwrap();
        home.prepare(DEMO).unwrap();
    }
}

#[test]
fn diff_ids_are_verified() {
    let (home, image) = good();
    let mut document = read(&home, &image);
    let other = config(&[Digest::sha256_of(b"something else").to_string()]);
    document["config"] = home.put_json(CONFIG, &other);
    home.write_index(&[named(home.put_json(MANIFEST, &document), DEMO)]);
    refused(&home, "the image's configuration says");
}

#[test]
fn documents_that_lie_or_are_foreign() {
    let (home, image) = good();
    let document = read(&home, &image);
    let cases: [(&str, &str, Value, &str); 8] = [
        ("layers", MANIFEST, json!([]), "0 layers"),
        ("mediaType", MANIFEST, INDEX.into(), "it calls itself"),
        ("manifests", MANIFEST, json!([]), "an index, too"),
        ("schemaVersion", MANIFEST, 1.into(), "schemaVersion 2"),
        (
            "config",
            MANIFEST,
            json!({"mediaType": "application/x-helm", "digest": document["config"]["digest"], "size": 2}),
            "not a container image",
        ),
        ("x", "application/vnd.docker.distribution.manifest.v1+prettyjws", json!(0), "is no image manifest"),
        ("mediaType", INDEX, INDEX.into(), "a manifest, too"),
        (
            "layers",
            MANIFEST,
            json!([{"mediaType": "application/x-squashfs", "digest": document["layers"][0]["digest"], "size": 1}]),
            "are not supported",
        ),
    ];
    for (key, media_type, value, words) in cases {
        let mut document = document.clone();
        document[key] = value;
        home.write_index(&[named(home.put_json(media_type, &document), DEMO)]);
        refused(&home, words);
    }
    for (key, value) in [("architecture", "s390x"), ("os", "windows")] {
        let mut other = read(&home, &document["config"]);
        other[key] = value.into();
        let mut document = document.clone();
        document["config"] = home.put_json(CONFIG, &other);
        home.write_index(&[named(home.put_json(MANIFEST, &document), DEMO)]);
        refused(&home, "this machine is linux/");
    }
}

#[test]
fn endless_json_is_not_read() {
    let home = Home::new();
    let file = fs::File::create(home.path("layout/index.json")).unwrap();
    file.set_len(1 << 30).unwrap();
    refused(&home, "bytes of JSON are not read");
    let digest = Digest::sha256_of(b"big");
    fs::File::create(home.path("layout/blobs/sha256").join(digest.hex())).unwrap().set_len(1 << 30).unwrap();
    let big = json!({"mediaType": MANIFEST, "digest": digest.to_string(), "size": 1 << 30});
    home.write_index(&[named(big, DEMO)]);
    refused(&home, "are read");
    let nested = home.put(&[b"[".repeat(100_000), b"]".repeat(100_000)].concat());
    let nested = json!({"mediaType": MANIFEST, "digest": nested["digest"], "size": nested["size"]});
    home.write_index(&[named(nested, DEMO)]);
    home.prepare(DEMO).unwrap_err();
    home.left_nothing();
}

fn platform(mut descriptor: Value, os: &str, architecture: &str, variant: Option<&str>) -> Value {
    descriptor["platform"] = json!({"os": os, "architecture": architecture});
    if let Some(variant) = variant {
        descriptor["platform"]["variant"] = variant.into();
    }
    descriptor
}

#[test]
fn another_platform_than_the_machines_is_chosen_by_request() {
    let home = Home::new();
    let for_platform = |architecture: &str, variant: Option<&str>, content: &[u8]| {
        let archive = tar([file("a", content)]);
        let mut config = config(&[Digest::sha256_of(&archive).to_string()]);
        config["architecture"] = architecture.into();
        if let Some(variant) = variant {
            config["variant"] = variant.into();
        }
        let config = home.put_json(CONFIG, &config);
        let image = home.put_json(MANIFEST, &manifest(&config, &[home.put_layer(PLAIN, &archive)]));
        platform(image, "linux", architecture, variant)
    };
    let (v6, v7) = (for_platform("arm", Some("v6"), b"6"), for_platform("arm", Some("v7"), b"7"));
    let (plain, v3) = (for_platform("amd64", None, b"1"), for_platform("amd64", Some("v3"), b"3"));
    let all = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [v3, v6, plain, v7]});
    home.write_index(&[named(home.put_json(INDEX, &all), DEMO)]);
    let wanted = |architecture: &str, variant: Option<&str>| {
        let architecture = Some(architecture.to_owned()).filter(|name| !name.is_empty());
        Platform { architecture, variant: variant.map(str::to_owned) }
    };
    for (architecture, variant, found) in [
        ("amd64", None, &plain),
        ("amd64", Some("v3"), &v3),
        ("amd64", Some("v4"), &plain),
        ("arm", None, &v7),
        ("arm", Some("v8"), &v7),
        ("arm", Some("v6"), &v6),
    ] {
        let prepared = home.prepare_for(DEMO, &wanted(architecture, variant)).unwrap();
        assert_eq!(prepared.digest, found["digest"], "{architecture} {variant:?}");
    }
    let error = home.prepare_for(DEMO, &wanted("s390x", None)).unwrap_err().to_string();
    assert!(error.contains("no image for linux/s390x; it offers: linux/amd64/v3, linux/arm/v6"), "{error}");
    // Without an index there is one image, and it has to be what was asked for.
    let mut only = v7.clone();
    only.as_object_mut().unwrap().remove("platform");
    home.write_index(&[named(only, DEMO)]);
    assert_eq!(home.prepare_for(DEMO, &wanted("arm", None)).unwrap().digest, v7["digest"]);
    let error = home.prepare_for(DEMO, &wanted("arm", Some("v6"))).unwrap_err().to_string();
    assert!(error.contains("an image for linux/arm, wanted is one for linux/arm/v6"), "{error}");
}

#[test]
fn the_platform_is_chosen_through_nested_indexes() {
    let (home, image) = good();
    let other = home.put_image(&[(PLAIN, &tar([file("other", b"")]))]);
    let inner = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        platform(other.clone(), "linux", "arm64", Some("v8")),
        platform(other.clone(), "unknown", "unknown", None),
        platform(other.clone(), "linux", "amd64", Some("v3")),
        platform(image.clone(), "linux", "amd64", None),
    ]});
    let inner = home.put_json(INDEX, &inner);
    let outer = home.put_json(INDEX, &json!({"schemaVersion": 2, "manifests": [inner]}));
    home.write_index(&[named(outer.clone(), DEMO)]);
    assert_eq!(home.prepare(DEMO).unwrap().digest, image["digest"]);

    // A digest means that very image, also one inside an index.
    for (pin, result) in [(&outer, &image), (&image, &image), (&other, &other)] {
        let name = format!("registry.example/any@{}", pin["digest"].as_str().unwrap());
        assert_eq!(home.prepare(&name).unwrap().digest, result["digest"]);
    }
    let name = format!("registry.example/any@{}", Digest::sha256_of(b"none"));
    assert!(home.prepare(&name).unwrap_err().to_string().contains("not on this machine"));

    let foreign = json!({"schemaVersion": 2, "manifests": [platform(image.clone(), "linux", "s390x", None)]});
    home.write_index(&[named(home.put_json(INDEX, &foreign), DEMO)]);
    let error = home.prepare(DEMO).unwrap_err().to_string();
    assert!(error.contains("no image for linux/amd64; it offers: linux/s390x"), "{error}");

    let mut deep = image;
    for _ in 0..10 {
        deep = home.put_json(INDEX, &json!({"schemaVersion": 2, "manifests": [deep]}));
    }
    home.write_index(&[named(deep, DEMO)]);
    assert!(home.prepare(DEMO).unwrap_err().to_string().contains("nested more than"));
}

#[test]
fn names_in_a_layout() {
    let (home, one) = good();
    let two = home.put_image(&[(PLAIN, &tar([file("two", b"")]))]);
    let resolve = |name: &str| {
        let found = home.layout().resolve(&name.parse().unwrap(), &Platform::default()).unwrap();
        found.map(|descriptor| descriptor.digest().to_string())
    };
    let digest = |image: &Value| Some(image["digest"].as_str().unwrap().to_string());

    // A bare tag, as umoci writes it.
    home.write_index(&[named(one.clone(), "latest"), named(two.clone(), "1.0")]);
    assert_eq!(resolve("localhost/any"), digest(&one));
    assert_eq!(resolve("localhost/any:1.0"), digest(&two));
    assert_eq!(resolve("localhost/any:2.0"), None);
    // Two of the same tag: nobody knows which.
    home.write_index(&[named(one.clone(), "latest"), named(two.clone(), "latest")]);
    assert_eq!(resolve("localhost/any"), None);
    // No name at all, alone in the layout; with a name, only that.
    home.write_index(std::slice::from_ref(&one));
    assert_eq!(resolve("localhost/any:7"), digest(&one));
    home.write_index(&[named(one.clone(), "docker.io/library/nginx:latest")]);
    assert_eq!(resolve("docker.io/nginx"), digest(&one));
    assert_eq!(resolve("localhost/nginx"), None);
    // The full name wins over the tag, and containerd's annotation is one.
    let mut full = named(two.clone(), "latest");
    full["annotations"]["io.containerd.image.name"] = "docker.io/library/redis:latest".into();
    home.write_index(&[named(one.clone(), "latest"), full]);
    assert_eq!(resolve("docker.io/redis"), digest(&two));
    assert_eq!(resolve("docker.io/other"), digest(&one));
    // An earlier layout with only a matching tag does not hide a later one with the name.
    let later = Home::new();
    let image = later.put_image(&[(PLAIN, &tar([file("three", b"")]))]);
    later.write_index(&[named(image.clone(), DEMO)]);
    let found = prepare(
        &[home.layout(), later.layout()],
        &home.sealed_dir(),
        &home.layers_dir(),
        &DEMO.parse().unwrap(),
        &Platform::default(),
    )
    .unwrap();
    assert_eq!(found.digest, image["digest"]);
    // An earlier one that is broken does not either.
    fs::write(home.path("layout/index.json"), "{").unwrap();
    prepare(
        &[home.layout(), later.layout()],
        &home.sealed_dir(),
        &home.layers_dir(),
        &DEMO.parse().unwrap(),
        &Platform::default(),
    )
    .unwrap();
    assert!(home.prepare(DEMO).unwrap_err().to_string().contains("index.json"));
}

#[test]
fn folders_that_are_no_layout() {
    let home = Home::new();
    assert!(Layout::open(&home.path("canary")).is_err());
    for bad in ["", "{}", r#"{"imageLayoutVersion":"2.0.0"}"#] {
        fs::write(home.path("layout/oci-layout"), bad).unwrap();
        assert!(Layout::open(&home.path("layout")).is_err(), "{bad}");
    }
}

#[test]
fn the_health_check_of_dockers_format_is_read() {
    let home = Home::new();
    let mut document = config(&[]);
    document["config"] =
        json!({"Healthcheck": {"Test": ["CMD", "/check"], "Interval": 5_000_000_000_u64, "Retries": 2}});
    let image = home.put_json(MANIFEST, &manifest(&home.put_json(CONFIG, &document), &[]));
    home.write_index(&[named(image, DEMO)]);
    let found = home.prepare(DEMO).unwrap().health_check.unwrap();
    assert_eq!(
        (found.test, found.interval, found.timeout, found.retries),
        (vec!["CMD".into(), "/check".into()], 5_000_000_000, 0, 2)
    );
}

#[test]
fn a_layer_that_the_system_ships_unpacked_is_taken_from_there() {
    let home = Home::new();
    let layers = [tar([file("shipped", b"1")]), tar([file("own", b"2")])];
    let image = home.put_image(&[(PLAIN, &layers[0]), (PLAIN, &layers[1])]);
    home.write_index(&[named(image, DEMO)]);
    let shipped = home.sealed_dir().join(Digest::sha256_of(&layers[0]).hex());
    fs::create_dir_all(&shipped).unwrap();
    let own = home.layers_dir().join(Digest::sha256_of(&layers[1]).hex());
    assert_eq!(home.prepare(DEMO).unwrap().layers, [shipped, own]);
    assert_eq!(fs::read_dir(home.layers_dir()).unwrap().count(), 1, "only the other one is unpacked");
}
