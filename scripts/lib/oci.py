"""OCI images of one layer, as archives for docker load, podman load, skopeo and ctr images import.

An archive is an OCI layout (OCI image specification) with the list of `docker save` beside it. The same input makes the same bytes.
"""
import hashlib
import io
import json
import os
import tarfile


def _add(archive, name, data, mode=0o644):
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), mode
    archive.addfile(member, io.BytesIO(data))


def layer_of(files):
    """The bytes of a layer with FILES: triples of name, data and mode."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data, mode in files:
            _add(archive, name, data, mode)
    return buffer.getvalue()


def write(target, name, architecture, layer_data, config_fields):
    """Writes the image docker.io/library/NAME:latest of one uncompressed layer to TARGET."""
    blobs = {}

    def blob(data, media_type):
        # Keeps it, and returns what refers to it (descriptor).
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": "application/vnd.oci.image." + media_type, "digest": "sha256:" + digest, "size": len(data)}

    def text(value):
        return json.dumps(value, indent=1).encode()

    def path_of(descriptor):
        return "blobs/sha256/" + descriptor["digest"].removeprefix("sha256:")

    layer = blob(layer_data, "layer.v1.tar")
    config = blob(text({"architecture": architecture, "os": "linux", "config": config_fields,
                        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}), "config.v1+json")
    manifest = blob(text({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config,
                          "layers": [layer]}), "manifest.v1+json")
    manifest["annotations"] = {"org.opencontainers.image.ref.name": "latest",
                               "io.containerd.image.name": f"docker.io/library/{name}:latest"}
    manifest["platform"] = {"architecture": architecture, "os": "linux"}
    index = {"schemaVersion": 2, "manifests": [manifest]}
    docker = [{"Config": path_of(config), "RepoTags": [name + ":latest"], "Layers": [path_of(layer)]}]
    with open(target + ".part", "wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            _add(archive, "oci-layout", text({"imageLayoutVersion": "1.0.0"}))
            _add(archive, "index.json", text(index))
            _add(archive, "manifest.json", text(docker))
            for digest, data in sorted(blobs.items()):
                _add(archive, "blobs/sha256/" + digest, data)
    os.replace(target + ".part", target)
