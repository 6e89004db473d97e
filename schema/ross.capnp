@0xa517d90d572e38b4;
# The whole public contract of Ross, a container engine.
#
# A client connects to a Unix socket and receives one reference, the bootstrap. The daemon reads the peer's credentials once
# (SO_PEERCRED) and decides by them what that reference is: an Engine for root, for the daemon's own user and for members of the
# socket's group; a Gate for everybody else. `version` is answered by both and says which of the two it is.
#
# After that there are only references. A name or an id enters once, through Images.get or Containers.get; what comes back is a
# reference, and its methods take no id. Dropping a reference never destroys what it denotes, unless its interface says so; a
# container lives until it is removed. References do not outlive their connection. Dropping the promise of a call, or losing the
# connection, cancels the call in the daemon.
#
# Failures are exceptions whose text is one line, `code: message`, followed by a tab and a JSON object with the hint and the
# facts where there are any. Codes: invalidArgument, notFound, alreadyExists, failedPrecondition, unauthenticated, denied,
# unavailable, resourceExhausted, cancelled, corrupt, internal. Expected alternatives are data.
#
# An enumerant that a client does not know is to be treated as `unknown`. Fields and methods are only ever added.

using TimeInNs = Int64;
# Nanoseconds since the epoch; 0 where the thing has not happened.

using Digest = Text;
# `algorithm:hex`, of sha256 or sha512.

struct Pair {
  # One entry of a map with text keys. Keys do not repeat.

  key @0 :Text;
  value @1 :Text;
}

# ---------------------------------------------------------------------------------------------------------------------
# Bootstraps

interface Gate {
  # What anybody who can reach the socket holds. Implemented by the daemon, one for each connection.

  version @0 () -> (version :VersionInfo);
  # Who answers. Feature detection goes through this, never through calling and seeing what fails.
}

interface Engine extends(Gate) {
  # The whole engine. Implemented by the daemon, one for each connection of a peer that may have it.

  info @0 () -> (info :EngineInfo);
  # The engine and its host.

  images @1 () -> (images :Images);
  # The images in the store, and the way to get more.

  containers @2 () -> (containers :Containers);
  # The containers by name.

  events @3 (options :EventOptions) -> (reader :EventReader, position :UInt64);
  # What happens, or has happened, behind the sequence number `position`. When this returns, everything that happens from then on is told.

  tasks @4 () -> (tasks :List(TaskInfo));
  # The daemon's live task tree, each parent before its children.

  collect @5 () -> (removed :RemovedImages);
  # Removes what nothing references: content, snapshots, ingests that nobody continues.

  shutdown @6 () -> ();
  # Begins an orderly shutdown and returns. Containers keep running.

  registries @7 () -> (registries :Registries);
  # To whom the engine is known, and by what name.

  storage @8 () -> (storage :Storage);
  # Looking after what the daemon keeps on the disk.

  snapshots @9 () -> (snapshots :Snapshots);
  # The layers of images and what stands on them, for those who build or look into root filesystems.

  content @10 () -> (content :Content);
  # The content store: blobs and manifests by digest.
}

struct VersionInfo {
  version @0 :Text;
  protocol @1 :UInt32;
  features @2 :List(Text);
  role @3 :Role;

  enum Role {
    unknown @0;
    gate @1;
    engine @2;
  }
}

struct EngineInfo {
  version @0 :Text;
  root @1 :Text;
  run @2 :Text;
  pid @3 :UInt32;
  startedAt @4 :TimeInNs;
  runtime @5 :Text;
  runtimeVersion @6 :Text;
  monitor @7 :Text;
  monitorVersion @8 :Text;
  kernel @9 :Text;
  architecture @10 :Text;
  operatingSystem @11 :Text;
  hostname @12 :Text;
  cpus @13 :UInt32;
  memoryBytes @14 :UInt64;
  cgroupVersion @15 :UInt8;
  images @16 :UInt32;
  containers @17 :UInt32;
  containersRunning @18 :UInt32;
  snapshots @19 :UInt32;
  cgroupManager @20 :Text;
}

struct TaskInfo {
  name @0 :Text;
  depth @1 :UInt32;
  waitingAt @2 :Text;
}

# ---------------------------------------------------------------------------------------------------------------------
# Images

interface Images {
  # The image store. Implemented by the daemon; holding it keeps nothing alive.

  pull @0 (reference :Text, options :PullOptions, progress :Progress) -> (image :Image);
  # Resolves `reference` (as people type it) at its registry, fetches what is missing, unpacks it, and names it. `progress` may
  # be null. Cancelling leaves only ingests, which the next pull continues.

  get @1 (name :Text, platform :Platform) -> (image :Image);
  # By reference, digest, image id or a unique prefix of one. Where the name has several platforms here, `platform` chooses; null: the
  # host's own, else the one that was pulled last.

  list @2 (filter :ImageFilter) -> (images :List(ImageInfo), rest :ImagePages);
  # The newest first. As many as a message has room for; `rest` is null if those are all. What is uncommonly long is abridged.

  remove @3 (name :Text, force :Bool) -> (removed :RemovedImages);
  # Takes a name away; with the last name goes the image, and what nothing else references. By id, all names go, if there is
  # only one or `force` is set. Refused while a container uses the image; with `force` the names go all the same, but not by id while
  # one runs that does. References to it, and running pulls, keep content.

  untag @4 (name :Text, names :List(Text)) -> (untagged :List(Text));
  # Takes names away from the image `name`, all if `names` is empty, and deletes nothing: what has no name and no user is left to the
  # next collection. Either all of `names` are names of the image, or none is taken away.

  save @5 (names :List(Text), options :SaveOptions, sink :ByteStream) -> ();
  # Writes an archive of the images to `sink`, and `done` behind it; the same images give the same bytes. By a reference, the archive
  # has that name; by digest or id, it has none. Their content is held meanwhile. Cancelling ends the writing, and leaves nothing.

  load @6 (options :LoadOptions, progress :Progress) -> (stream :ByteStream, loading :Loading);
  # Takes an archive of images in: an OCI layout or Docker's form, as a tar that may be compressed with gzip or zstd. The client writes it to
  # `stream`, with `done` at its end, while it waits for `loading.finish`. `progress` may be null.

  importFilesystem @7 (options :ImportOptions, progress :Progress) -> (stream :ByteStream, loading :Loading);
  # Makes an image with one layer of the tar that the client writes to `stream`, in the same way.
}

interface ImagePages {
  # The rest of a list, as it was when it was asked for. Implemented by the daemon. Asking again gives the same.

  next @0 () -> (images :List(ImageInfo), rest :ImagePages);
}

interface LoadedPages {
  # The rest of what was loaded. Implemented by the daemon. Asking again gives the same.

  next @0 () -> (loaded :List(LoadedImage), rest :LoadedPages);
}

interface Loading {
  # An archive on its way in. Implemented by the daemon; nothing happens before `finish` is called. Dropping it ends the stream: writing to
  # it fails from then on.

  finish @0 () -> (loaded :List(LoadedImage), rest :LoadedPages);
  # Reads the stream to its end, and returns what was in it. Fails as soon as the archive is found to be bad, whether or not all of it
  # was written. The names are set last, all of them or none. Cancelling leaves no more than a pull that was cancelled. Once only. `rest` is
  # null unless there were more images than a message has room for; what is uncommonly long is abridged.
}

interface Image {
  # One image: a manifest, its config, its layers. Implemented by the daemon. Denotes a digest, never a tag: it stays what it was
  # when the tag moves. As long as it is held, its content is not collected.

  info @0 () -> (info :ImageInfo);

  create @1 (spec :ContainerSpec, mode :CreateMode, shared :Shared) -> (container :Container);
  # A new container of this image, not started. It outlives the reference and the connection. With a key that has made one already:
  # that one, if it was asked for in the same way. `shared` may be null.

  tag @2 (reference :Text) -> ();
  # Lets a name denote what this was got as: the index, if it came by one. A name that denotes something else is moved; an image that
  # loses its last name so stays without one, until it is removed or pruned.

  history @3 () -> (history :List(History));
  # How it was made, the last step first.

  config @4 () -> (config :Data);
  # The image config, byte for byte: JSON (image-spec, config.md).

  manifest @5 () -> (manifest :Data);
  # The manifest, byte for byte: JSON (image-spec, manifest.md).

  push @6 (reference :Text, options :PushOptions, progress :Progress) -> (pushed :PushedImage);
  # Lets `reference` denote this at its registry: what this was got as, so the whole index if it came by one. Of an index, what is neither
  # here nor there fails it. `progress` may be null. Cancelling ends the uploads; the registry keeps whole blobs, and no tag.

  referrers @7 (repository :Text, artifactType :Text) -> (referrers :List(Referrer));
  # What its registry has that is about this image or the index it was got as, as the registry says, unverified. `repository` is a name of
  # the image (empty: the first it has); an empty `artifactType` means all.
}

interface Progress {
  # Implemented by a client that wants to see the progress of a pull or a push.

  update @0 (blobs :List(BlobProgress)) -> stream;
  # What changed since the last update, at most some ten times a second; the last one has every blob in phase done or exists.

  notice @1 (notice :Notice) -> stream;
  # What a registry has to say to whoever pulls: each thing once, a dozen at most.
}

struct Notice {
  kind @0 :NoticeKind;
  registry @1 :Text;
  text @2 :Text;
}

enum NoticeKind {
  unknown @0;
  warning @1;
  rateLimit @2;
  delay @3;
  mirror @4;
}

struct PullOptions {
  platform @0 :Platform;
  # Null: the host's own.
}

struct SaveOptions {
  format @0 :ArchiveFormat = both;
  platform @1 :Platform;
  # Null: what the name denotes, with all of it that is in the store.
}

enum ArchiveFormat {
  unknown @0;
  both @1;
  ociArchive @2;
  dockerArchive @3;
}

struct LoadOptions {
  platform @0 :Platform;
  # Null: the host's own, or the only one that the archive has.
}

struct ImportOptions {
  name @0 :Text;
  changes @1 :List(Text);
  # Instructions of a Dockerfile: CMD ENTRYPOINT ENV EXPOSE LABEL STOPSIGNAL USER VOLUME WORKDIR.
  message @2 :Text;
  platform @3 :Platform;
  # Null: the host's own.
}

struct LoadedImage {
  names @0 :List(Text);
  # Empty: the archive gave it none. It is kept without one, until it is removed or pruned.
  image @1 :ImageInfo;
}

struct Platform {
  os @0 :Text;
  architecture @1 :Text;
  variant @2 :Text;
}

struct BlobProgress {
  digest @0 :Digest;
  phase @1 :PullPhase;
  currentBytes @2 :UInt64;
  totalBytes @3 :UInt64;
}

enum PullPhase {
  unknown @0;
  waiting @1;
  downloading @2;
  verifying @3;
  unpacking @4;
  done @5;
  exists @6;
  uploading @7;
  mounted @8;
}

struct ImageInfo {
  id @0 :Digest;
  names @1 :List(Text);
  target @2 :Digest;
  manifest @3 :Digest;
  platform @4 :Platform;
  createdAt @5 :TimeInNs;
  sizeBytes @6 :UInt64;
  unpackedBytes @7 :UInt64;
  chainId @8 :Digest;
  layers @9 :List(Digest);
  entrypoint @10 :List(Text);
  command @11 :List(Text);
  env @12 :List(Text);
  workingDir @13 :Text;
  user @14 :Text;
  stopSignal @15 :Text;
  exposedPorts @16 :List(Text);
  volumes @17 :List(Text);
  labels @18 :List(Pair);
  abridged @19 :Bool;
  # What its config says for containers is left out, being too long.
}

struct ImageFilter {
  # Documented field by field in ross.model.ImageFilter.

  all @0 :Bool;
  dangling @1 :Bool;
  named @2 :Bool;
  references @3 :List(Text);
  labels @4 :List(Text);
  before @5 :Text;
  since @6 :Text;
}

struct History {
  id @0 :Digest;
  # Null but for the last step.
  createdAt @1 :TimeInNs;
  createdBy @2 :Text;
  author @3 :Text;
  comment @4 :Text;
  empty @5 :Bool;
  layer @6 :Digest;
  sizeBytes @7 :UInt64;
  names @8 :List(Text);
}

struct Referrer {
  subject @0 :Digest;
  digest @1 :Digest;
  mediaType @2 :Text;
  artifactType @3 :Text;
  sizeBytes @4 :UInt64;
  annotations @5 :List(Pair);
}

struct PushOptions {
  manifestOnly @0 :Bool;
}

struct PushedImage {
  name @0 :Text;
  digest @1 :Digest;
  sizeBytes @2 :UInt64;
}

struct RemovedImages {
  untagged @0 :List(Text);
  deleted @1 :List(Digest);
  freedBytes @2 :UInt64;
  usedBy @3 :List(Text);
  # Containers, for which an image stays that has no name any more.
}

# ---------------------------------------------------------------------------------------------------------------------
# Registries

interface Registries {
  # The credentials that the engine has for registries. Implemented by the daemon; holding it keeps nothing alive. What was logged in to
  # stays so until it is logged out of, whoever holds what. Nothing here ever gives a secret away.

  login @0 (registry :Text, username :Text, password :Text) -> (login :RegistryLogin, proved :Bool);
  # Proves the credentials to the registry, then keeps them where Docker does; without a user name, proves those that are kept. `registry`
  # is a host as people type it; empty: Docker Hub. `proved` is false where the registry asks for no credentials. Cancelling it keeps the
  # old ones, or has kept the new.

  logout @1 (registry :Text) -> (found :Bool);
  # Forgets the credentials; `found` is false if there were none.

  list @2 () -> (logins :List(RegistryLogin));
  # By the names of the registries.
}

struct RegistryLogin {
  # Documented field by field in ross.model.RegistryLogin.

  registry @0 :Text;
  username @1 :Text;
  store @2 :Text;
  encrypted @3 :Bool;
  token @4 :Bool;
}

# ---------------------------------------------------------------------------------------------------------------------
# Storage

interface Storage {
  # Looking after the root directory. Implemented by the daemon; holding it keeps nothing alive.

  usage @0 (items :Bool) -> (usage :DiskUsage);
  # Measures everything below the root, as du does; with `items` also thing by thing. Cancelling stops the measuring.

  prune @1 (options :PruneOptions) -> (pruned :Pruned);
  # Removes what nobody uses and `options` fit: containers that do not run, then images. Cancelling stops between two things.

  check @2 (repair :Bool, progress :CheckSink) -> (report :CheckReport);
  # Hashes all content again, and compares all unpacked layers with their blobs; with `repair` puts right what can be: content
  # is fetched again from where it came from, layers are unpacked again, what nobody knows is removed. Cancelling stops it; what was
  # put right stays so. A `progress` that fails ends the telling, not the check; it may be absent.
}

interface CheckSink {
  # Implemented by a client that wants to see how a check goes.

  update @0 (progress :CheckProgress) -> stream;
  # How far it has come, some ten times a second at most.
}

interface Content {
  # The content store: blobs and manifests, each what its digest says. Implemented by the daemon; holding it keeps nothing alive. Content that
  # no image and nobody at work needs is collected, unless it has the label `ross.gc.root`.

  info @0 (digest :Digest) -> (info :ContentInfo);

  list @1 (filter :ContentFilter) -> (content :List(ContentInfo), rest :ContentPages);
  # By digest. As many as a message has room for; `rest` is null if those are all.

  read @2 (digest :Digest, offset :UInt64, length :Int64 = -1, sink :ByteStream) -> ();
  # Writes content to `sink`, from `offset` on, so many bytes, or to the end if `length` is negative. It stays meanwhile.

  ingests @3 () -> (ingests :List(IngestStatus));
  # What is on its way, whether or not anybody goes on with it.

  abort @4 (digest :Digest) -> ();
  # Throws away what has come so far. Refused while somebody goes on with it.

  write @5 (digest :Digest, sizeBytes :UInt64) -> (writer :ContentWriter, offset :UInt64);
  # Begins to bring in a blob, or goes on at `offset`, where it stopped. One writer at a time: unavailable while there is another,
  # alreadyExists if it is there.

  remove @6 (digest :Digest) -> (freedBytes :UInt64);
  # Refused with failedPrecondition while something needs it. Once begun it is finished, even if the caller goes away.

  update @7 (digest :Digest, labels :List(Pair), forget :List(Text)) -> (info :ContentInfo);
  # Sets labels, and takes away those named by `forget`; others stay.
}

interface ContentPages {
  # The rest of a list, as it was when it was asked for. Implemented by the daemon. Asking again gives the same.

  next @0 () -> (content :List(ContentInfo), rest :ContentPages);
}

interface ContentWriter {
  # A blob on its way in. Implemented by the daemon. Dropping it, or losing the connection, closes it: what has come stays for whoever
  # goes on with it, for a day. So does writing nothing for a minute while others wait for it.

  write @0 (offset :UInt64, data :Data) -> (offset :UInt64);
  # Appends, and returns how much is there; `offset` must be where it goes on.

  restart @1 () -> ();
  # Throws away what is there and begins at 0.

  commit @2 (labels :List(Pair)) -> (info :ContentInfo);
  # Verifies size and digest; if they are wrong, nothing is kept. It is on the disk when this returns, and held until the writer is closed.

  close @3 () -> ();
  # Lets go. Does nothing the second time.
}

struct ContentInfo {
  digest @0 :Digest;
  kind @1 :Text;
  sizeBytes @2 :UInt64;
  createdAt @3 :TimeInNs;
  updatedAt @4 :TimeInNs;
  labels @5 :List(Pair);
}

struct ContentFilter {
  kind @0 :Text;
  digestPrefix @1 :Text;
  labels @2 :List(Text);
}

struct IngestStatus {
  digest @0 :Digest;
  offset @1 :UInt64;
  totalBytes @2 :UInt64;
  startedAt @3 :TimeInNs;
  updatedAt @4 :TimeInNs;
  active @5 :Bool;
}

struct CheckProgress {
  # Documented field by field in ross.model.CheckProgress.

  stage @0 :CheckStage;
  currentBytes @1 :UInt64;
  totalBytes @2 :UInt64;
}

enum CheckStage {
  unknown @0;
  content @1;
  layers @2;
  rest @3;
}

struct CheckReport {
  findings @0 :List(Finding);
  blobs @1 :UInt64;
  manifests @2 :UInt64;
  images @3 :UInt64;
  snapshots @4 :UInt64;
  sizeBytes @5 :UInt64;
}

struct Finding {
  severity @0 :Severity;
  kind @1 :Text;
  name @2 :Text;
  problem @3 :Text;
  detail @4 :Text;
  repaired @5 :Bool;
  resolution @6 :Text;

  enum Severity {
    unknown @0;
    note @1;
    error @2;
  }
}

struct DiskUsage {
  root @0 :Text;
  rows @1 :List(UsageRow);
  items @2 :List(UsageItem);
  totalBytes @3 :UInt64;
  freeBytes @4 :UInt64;
  unmeasured @5 :List(Text);
  # Paths below the root of what cannot be read to its end, or was moved about meanwhile: it counts nothing.
}

struct UsageRow {
  kind @0 :Text;
  total @1 :UInt64;
  active @2 :UInt64;
  sizeBytes @3 :UInt64;
  reclaimableBytes @4 :UInt64;
}

struct UsageItem {
  kind @0 :Text;
  name @1 :Text;
  sizeBytes @2 :UInt64;
  sharedBytes @3 :UInt64;
  users @4 :UInt64;
}

struct PruneOptions {
  containers @0 :Bool = true;
  images @1 :Bool = true;
  all @2 :Bool;
  until @3 :TimeInNs;
  labels @4 :List(Text);
  withoutLabels @5 :List(Text);
}

struct Pruned {
  containers @0 :List(Text);
  untagged @1 :List(Text);
  deleted @2 :List(Digest);
  freedBytes @3 :UInt64;
}

# ---------------------------------------------------------------------------------------------------------------------
# Snapshots

interface Snapshots {
  # The snapshots: layers that stack up to root filesystems. Implemented by the daemon; holding it keeps nothing alive. What is made
  # here is recorded as a client's and stays until it is removed here, whoever goes away. What images and containers own can be looked at,
  # labelled and built upon; only they remove it.
  #
  #     prepare ──► active ──commit──► committed ◄──(parent)── prepare | view ──► view
  #
  # Only a committed one can be a parent, and one that is a parent is not removed.

  stat @0 (name :Text) -> (snapshot :SnapshotInfo);
  # What is known of one; never waits.

  list @1 (filter :SnapshotFilter) -> (snapshots :List(SnapshotInfo), rest :SnapshotPages);
  # Those that the filter lets through, by name; all, if it is null. Never waits. As many as a message has room for; `rest` is null if those
  # are all.

  prepare @2 (name :Text, parent :Text, labels :List(Pair)) -> (snapshot :SnapshotInfo);
  # A new one to write into, on top of a committed one; on nothing if `parent` is empty. Done as a whole or not at all.

  view @3 (name :Text, parent :Text, labels :List(Pair)) -> (snapshot :SnapshotInfo);
  # A new one that only reads, and keeps its parent. Done as a whole or not at all.

  commit @4 (name :Text, target :Text, labels :List(Pair)) -> (snapshot :SnapshotInfo);
  # Makes the active snapshot `name` a committed one, called `target`, with these labels instead of its own; its contents are on the disk
  # when this returns. It must not be mounted any more. Done as a whole or not at all: cancelled, it is active still, or committed.

  remove @5 (name :Text) -> (freedBytes :UInt64);
  # Once begun it is finished, even if the caller goes away.

  update @6 (name :Text, labels :List(Pair), forget :List(Text)) -> (snapshot :SnapshotInfo);
  # Sets labels, and takes away those named by `forget`; others stay.

  usage @7 (name :Text) -> (usage :SnapshotUsage);
  # What it takes by itself, without those below. Walks it; cancelling stops the walk.

  mounts @8 (name :Text) -> (mount :SnapshotMount);
  # How it is to be mounted. For root only, who alone can use it.

  diff @9 (name :Text, base :Text, sink :ChangeSink) -> ();
  # Sends to `sink` what `name` has other than `base` (empty: than its parent), each directory before what is inside of it, and returns at
  # the end. Reads what is there meanwhile: of a snapshot that is being written to, some of the changes. Cancelling stops the reading.
}

interface SnapshotPages {
  # The rest of a list, as it was when it was asked for. Implemented by the daemon. Asking again gives the same.

  next @0 () -> (snapshots :List(SnapshotInfo), rest :SnapshotPages);
}

interface ChangeSink {
  # Receives differences. Implemented by the client.

  write @0 (changes :List(SnapshotChange)) -> stream;
}

struct SnapshotInfo {
  # Documented field by field in ross.model.SnapshotInfo.

  name @0 :Text;
  kind @1 :SnapshotKind;
  parent @2 :Text;
  # Null: it stands on nothing.
  createdAt @3 :TimeInNs;
  updatedAt @4 :TimeInNs;
  owner @5 :SnapshotOwner;
  labels @6 :List(Pair);
  sizeBytes @7 :UInt64;
}

enum SnapshotKind {
  unknown @0;
  active @1;
  committed @2;
  view @3;
  staged @4;
  # A layer that is being unpacked.
}

enum SnapshotOwner {
  unknown @0;
  nobody @1;
  container @2;
  client @3;
}

struct SnapshotFilter {
  # What is empty, or unknown, is not asked for.

  namePrefix @0 :Text;
  kind @1 :SnapshotKind;
  parent @2 :Text;
  labels @3 :List(Text);
  # `key=value`, or `key` for a label of any value.
}

struct SnapshotUsage {
  # Allocated blocks, and inodes; what is linked several times counts once.

  sizeBytes @0 :UInt64;
  inodes @1 :UInt64;
}

struct SnapshotMount {
  # The directories of an overlay, top first; `upper` and `work` are empty for what cannot be written to.

  lower @0 :List(Text);
  upper @1 :Text;
  work @2 :Text;
  options @3 :List(Text);
}

struct SnapshotChange {
  # One path, absolute, as the kernel has it: most likely UTF-8, and not always. Of a directory that is deleted only itself is told.

  change @0 :ChangeKind;
  path @1 :Data;
  kind @2 :FileKind;
}

enum ChangeKind {
  unknown @0;
  added @1;
  modified @2;
  deleted @3;
}

enum FileKind {
  unknown @0;
  file @1;
  directory @2;
  link @3;
  fifo @4;
  socket @5;
  characterDevice @6;
  blockDevice @7;
}

# ---------------------------------------------------------------------------------------------------------------------
# Containers

interface Containers {
  # The directory of containers: the one place where a name becomes a reference. Implemented by the daemon.

  get @0 (name :Text) -> (container :Container);
  # By name, id or a unique prefix of an id.

  list @1 (filter :ContainerFilter) -> (containers :List(ContainerInfo), rest :ContainerPages);
  # From what was last observed, the newest first; never waits for a container, only for sizes if they are asked for. As many as a message
  # has room for; `rest` is null if those are all. What is uncommonly long is abridged.
}

interface ContainerPages {
  # The rest of a list, as it was when it was asked for. Implemented by the daemon. Asking again gives the same.

  next @0 () -> (containers :List(ContainerInfo), rest :ContainerPages);
}

interface Container {
  # One container. Implemented by the daemon; lives until it is removed, whoever holds it. A reference to a removed container still
  # answers `info` and `wait`; everything else fails with notFound.
  #
  #     create ──► created ──start──► starting ──► running ──(process ends)──► stopped ──start──► starting ...
  #                                     ▲ │           │ stop                     ▲ ▲
  #                                     │ │           └───────► stopping ────────┘ │
  #                                     │ └────────(start failed)──────────────────┤
  #                                     │                                          │ stop, remove(force)
  #     running ──(process ends, and its policy says so)──► restarting ────────────┘
  #                                     └───────(pause)──────────┘
  #     running ──pause──► paused ──resume──► running          paused ──stop──► stopping          paused ──(process ends)──► stopped
  #     created | stopped ──remove──► removing ──► removed     running | paused ──remove(force)──► (killed, then as stopped)
  #     running ──checkpoint──► stopped ──restore──► starting ──► running        running ──checkpoint(leaveRunning)──► running
  #
  # Any other transition fails with failedPrecondition and says from which state.

  info @0 () -> (info :ContainerInfo);

  start @1 (stdio :List(UInt32), fds :List(UInt32)) -> ();
  # Returns when its process runs. Finished even if the caller goes away: a start is never half done. With the log driver `passthrough`
  # its process has for its streams the three descriptors, pipes or the null device, that come with this message and `stdio` names; without
  # any, and whenever it is started again by itself, the null device. What `fds` names it has from descriptor 3 on, this once; its monitor
  # holds them too, so whoever has the other end of a pipe reads its end when the container has ended.

  wait @2 (condition :WaitCondition) -> (outcome :Outcome);
  # `notRunning` (and unknown): returns when it is stopped, at once if it is; for one not yet started, when its first run has ended; for
  # one that removes itself, when it is removed. `nextExit`: when its process ends next. `removed`: when nothing of it is left.
  # `healthy`: when its health checks say that it is well, with an outcome that says nothing; fails with failedPrecondition if it has
  # none, or is at rest after a run.

  stop @3 (signal :Text, graceSeconds :Int32) -> ();
  # Sends the signal (empty: the spec's, then the image's, then SIGTERM), waits that long (-1: the spec's), then sends SIGKILL; returns
  # when it is stopped. Does nothing to a container that does not run. Cancelling the call cancels neither signal.

  signal @4 (signal :Text) -> ();
  # Sends one signal, by name or number, to its first process.

  attach @5 (options :AttachOptions, stdout :ByteStream, stderr :ByteStream) -> (process :Process, stdin :ByteStream);
  # Connects to its first process. Before `start`: from the first byte on, once it starts. With a terminal everything arrives on
  # `stdout`. A sink may be null. Dropping `process` and `stdin` detaches and ends nothing.

  logs @6 (options :LogOptions, sink :LogSink) -> ();
  # Sends the log to `sink` and returns at its end; with `follow`, when the container has stopped and all was sent. Fails with
  # failedPrecondition if the container keeps none. Cancelling stops the reading.

  remove @7 (force :Bool) -> ();
  # Removes it and all that is its own; with `force` also one that runs. Returns when nothing of it is left.

  pause @8 () -> ();
  # Freezes its processes.

  resume @9 () -> ();
  # Lets them go on.

  restart @10 (signal :Text, graceSeconds :Int32) -> ();
  # Stops it, as `stop` does, and starts it; one that does not run is only started. Finished even if the caller goes away.

  rename @11 (name :Text) -> ();
  # Gives it another name; fails with alreadyExists if that is taken.

  update @12 (update :ContainerUpdate) -> ();
  # Changes its limits, at once if it runs, and its restart policy.

  stat @13 (path :Data, follow :Bool) -> (file :FileInfo);
  # What is at a path; with `follow`, what a link there leads to. Paths are absolute, links are resolved with the container's root as
  # root. Of one that runs, files are seen as it sees them, mounts included; of any other, its root filesystem is mounted
  # meanwhile, and a path where it would have a mount is refused.

  readFiles @14 (path :Data, name :Data, follow :Bool, sink :ByteStream) -> ();
  # Writes a tar of what is at a path to `sink`, and `done` behind it. In the archive it is called `name` (empty: the last part of the
  # path); a directory whose path ends with `/.` is what is in it. Sockets, and what is in kernel filesystems, are left out.
  # Cancelling ends the reading. One that does not run is neither started nor removed meanwhile, unless the copy takes a minute longer.

  writeFiles @15 (path :Data, keepOwners :Bool) -> (stream :ByteStream, writing :FileWriting);
  # Puts what is in a tar, which may be compressed, into the directory at a path. The client writes it to `stream`, with `done` at its end,
  # while it waits for `writing.finish`. Everything belongs to root then, unless `keepOwners` lets the tar say to whom.

  exportFiles @16 (sink :ByteStream) -> ();
  # Writes a tar of its whole root filesystem to `sink`, without what is mounted in it, and `done` behind it: the same bytes as long as
  # nothing in it changes.

  diff @17 (sink :ChangeSink) -> ();
  # Sends to `sink` what it has changed in the files of its image, each directory before what is inside of it, and returns at the end.

  commit @18 (options :CommitOptions) -> (image :Image);
  # Makes an image of what it is now: its image, and what it has changed as one layer more. Cancelling leaves nothing but content that
  # the next collection takes away.

  exec @19 (options :ExecOptions, stdout :ByteStream, stderr :ByteStream) -> (exec :Exec, stdin :ByteStream);
  # Executes a program beside its first process, and returns when it runs; all of its output goes to the sinks, from the first byte on. A
  # sink may be null. Fails with failedPrecondition in a container that does not run. Cancelled or failed, nothing of it is left.

  execs @20 () -> (execs :List(FoundExec));
  # What is executed in it, and the last ones that have ended, the oldest first; also what an earlier daemon has begun.

  top @21 (columns :Text) -> (processes :ProcessTable);
  # What runs in it, as the host sees it: read from the kernel, never from a program of the image. `columns` as `ps` has them: `-ef` (or
  # nothing), `aux`, or `-o` and names.

  stats @22 (intervalMs :UInt32, sink :StatsSink) -> ();
  # Sends what it uses to `sink`, at once and then so often (0: only once), and returns when it has stopped for good. Read from the counters
  # of its control group: one that hangs or is paused is measured as any other. Fails with failedPrecondition for one that does not run.

  identify @23 (nonce :Data) -> ();
  # For the engine itself, when it is handed this reference: its answer tells it which container this is. To anybody else it does nothing.

  checkpoint @24 (options :CheckpointOptions) -> ();
  # Writes its processes to files, in the place of its last checkpoint, and ends them: it is stopped then, its outcome says why, and no
  # policy starts it. With `leaveRunning` it goes on. Fails with failedPrecondition, and it goes on as it was, where CRIU is not installed, does
  # not work with this kernel, or cannot take what is in the container. Cancelled, or when somebody stops it meanwhile, nothing is left of it.
  # The checkpoint stays on the host of the engine, until it is restored from, the next one is made, or the container is removed; a plain
  # `start` begins at the beginning, and leaves it where it is.

  restore @25 (options :RestoreOptions) -> ();
  # Lets it go on from its checkpoint, as a `start` that is finished even if the caller goes away; then the checkpoint is gone, unless it
  # is to be kept. Failed, it is as before. Fails with failedPrecondition if it runs, or has no checkpoint. Its files are what they are now.
}

struct CheckpointOptions {
  # Documented field by field in ross.model.checkpoints.

  keep @0 :Bool;
  leaveRunning @1 :Bool;
  tcpEstablished @2 :Bool;
  fileLocks @3 :Bool;
}

struct RestoreOptions {
  keep @0 :Bool;
  tcpEstablished @1 :Bool;
  fileLocks @2 :Bool;
}

struct CheckpointInfo {
  madeAt @0 :TimeInNs;
  path @1 :Text;
  logPath @2 :Text;
  # Empty if it was not kept.
  restoreLogPath @3 :Text;
}

interface StatsSink {
  # Receives samples. Implemented by the client; one that is too slow receives fewer.

  write @0 (stats :ContainerStats) -> stream;
}

struct ContainerStats {
  # Documented field by field in ross.model.stats. Counters begin with each run.

  sampledAt @0 :TimeInNs;
  elapsedNs @1 :Int64;
  cpu @2 :CpuUse;
  memory @3 :MemoryUse;
  io @4 :IoUse;
  pids @5 :PidsUse;
}

struct CpuUse {
  timeNs @0 :UInt64;
  userNs @1 :UInt64;
  systemNs @2 :UInt64;
  periods @3 :UInt64;
  throttledPeriods @4 :UInt64;
  throttledNs @5 :UInt64;
}

struct MemoryUse {
  usedBytes @0 :UInt64;
  cacheBytes @1 :UInt64;
  peakBytes @2 :UInt64;
  limitBytes @3 :UInt64;
  swapBytes @4 :UInt64;
  oomKills @5 :UInt64;
}

struct IoUse {
  readBytes @0 :UInt64;
  writtenBytes @1 :UInt64;
  reads @2 :UInt64;
  writes @3 :UInt64;
}

struct PidsUse {
  count @0 :UInt64;
  limit @1 :UInt64;
}

interface FileWriting {
  # Files on their way into a container. Implemented by the daemon; nothing happens before `finish` is called. Dropping it ends the stream:
  # writing to it fails from then on.

  finish @0 () -> (copied :CopiedFiles);
  # Reads the stream to its end, and returns when all is in its place. A file appears as a whole or not at all; failing or cancelled, what
  # came before stays. Once only.
}

struct FileInfo {
  name @0 :Data;
  kind @1 :FileKind;
  mode @2 :UInt32;
  sizeBytes @3 :UInt64;
  modifiedAt @4 :TimeInNs;
  uid @5 :UInt32;
  gid @6 :UInt32;
  linkTarget @7 :Data;
}

struct CopiedFiles {
  entries @0 :UInt64;
  sizeBytes @1 :UInt64;
}

struct CommitOptions {
  name @0 :Text;
  # Empty: it is kept by its digest.
  author @1 :Text;
  message @2 :Text;
  changes @3 :List(Text);
  # Instructions of a Dockerfile: CMD ENTRYPOINT ENV EXPOSE LABEL STOPSIGNAL USER VOLUME WORKDIR.
  pause @4 :Bool = true;
}

interface Process {
  # A process, as one attachment sees it: the first one of a container, or one that is executed in it. Implemented by the daemon. Dropping it
  # detaches.

  wait @0 () -> (outcome :Outcome);
  # Returns when the process has ended and all of its output was written to the attachment's sinks, or they failed.

  signal @1 (signal :Text) -> ();

  resize @2 (rows :UInt16, columns :UInt16) -> ();
  # Of its terminal; fails with failedPrecondition where it has none.
}

interface Exec extends(Process) {
  # A program that is executed in a container. Implemented by the daemon. As a Process it is the attachment that `Container.exec` was given.
  #
  # It ends by itself or with its container; its outcome is then kept as long as the container is there, or until many more have ended. When
  # nobody holds it any more, because all references were dropped or the connections of their holders, or the daemon has died, it goes the
  # way that its options declare.

  info @0 () -> (info :ExecInfo);

  attach @1 (options :AttachOptions, stdout :ByteStream, stderr :ByteStream) -> (process :Process, stdin :ByteStream);
  # Connects to it from now on; dropping `process` detaches. There is no log to begin with, nor to be slow by.
}

interface ByteStream {
  # Bytes one way, with flow control. Implemented by whoever receives them.

  write @0 (data :Data) -> stream;

  done @1 () -> ();
  # No more will come. Dropping the stream without it means that the rest was lost.

  gap @2 (lostBytes :UInt64) -> stream;
  # So many bytes were left out here, because their receiver was too slow; 0 where nobody has counted them. Only where the
  # receiver has agreed to it.
}

interface LogSink {
  # Receives a log. Implemented by the client.

  write @0 (chunk :LogChunk) -> stream;
  # The next stretch of it.
}

interface EventReader {
  # A place in the events of the engine. Implemented by the daemon. Dropping it ends the reading; the daemon keeps nothing of it, and never
  # waits for it. A reader that is too slow misses events, and is told so.

  next @0 (after :UInt64) -> (batch :EventBatch);
  # The events behind a sequence number, the `position` of the batch before; 0: from where the reading begins. Waits until there is one, or
  # a gap, or the end. Asking again for the same gives the same, or more: so whoever cancels it misses nothing.
}

struct ContainerSpec {
  # What is absent comes from the image, then from the engine. Documented field by field in ross.model.ContainerSpec.

  name @0 :Text;
  args @1 :List(Text);
  entrypoint @2 :List(Text);
  # Null: the image's. Empty: none, and the image's command is dropped.
  env @3 :List(Text);
  workingDir @4 :Text;
  user @5 :Text;
  hostname @6 :Text;
  terminal @7 :Bool;
  stdinOpen @8 :Bool;
  mounts @9 :List(Mount);
  network @10 :NetworkMode;
  readOnly @11 :Bool;
  privileged @12 :Bool;
  labels @13 :List(Pair);
  autoRemove @14 :Bool;
  # When it has stopped, or could not be started. Not at the end of a run that `restart` ends.
  stopSignal @15 :Text;
  stopGraceSeconds @16 :Int32 = 10;
  restart @17 :RestartPolicy;
  init @18 :Bool;
  # A small init is the first process.
  limits @19 :Limits;
  resources @20 :Resources;
  security @21 :Security;
  namespaces @22 :Namespaces;
  resolution @23 :Resolution;
  annotations @24 :List(Pair);
  stdinKept @25 :Bool;
  # The input stays open when whoever wrote to it is gone.
  log @26 :LogConfig;
  health @27 :HealthCheck;
}

struct Limits {
  # Limits of a control group. In a spec 0, or nothing, is what there is without the option; in an update it leaves things as they are,
  # and -1 takes a limit away. Documented field by field in ross.model.limits.

  memoryBytes @0 :Int64;
  memorySwapBytes @1 :Int64;
  memoryReservationBytes @2 :Int64;
  nanoCpus @3 :Int64;
  cpuShares @4 :Int64;
  cpuQuotaUs @5 :Int64;
  cpuPeriodUs @6 :Int64;
  cpusetCpus @7 :Text;
  cpusetMems @8 :Text;
  pidsLimit @9 :Int64;
  blkioWeight @10 :Int64;
}

struct Resources {
  # What else a container may use. Documented field by field in ross.model.limits.

  shmBytes @0 :UInt64;
  memorySwappiness @1 :Int32 = -1;
  oomScoreAdj @2 :Int32;
  oomKillDisable @3 :Bool;
  ulimits @4 :List(Ulimit);
  throttles @5 :List(Throttle);
  cgroupParent @6 :Text;
  hugePages @7 :List(HugePages);
}

struct HugePages {
  pageBytes @0 :UInt64;
  limitBytes @1 :UInt64;
}

struct Ulimit {
  name @0 :Text;
  soft @1 :Int64;
  # -1: unlimited.
  hard @2 :Int64;
}

struct Throttle {
  kind @0 :ThrottleKind;
  device @1 :Text;
  rate @2 :UInt64;
}

enum ThrottleKind {
  unknown @0;
  readBps @1;
  writeBps @2;
  readIops @3;
  writeIops @4;
  weight @5;
}

struct Security {
  # What keeps a container in, and what it is given nevertheless. Documented field by field in ross.model.security.

  noNewPrivileges @0 :Bool;
  capAdd @1 :List(Text);
  capDrop @2 :List(Text);
  seccomp @3 :Text;
  # Empty: the engine's profile. `unconfined`: none. Else a profile in JSON.
  apparmor @4 :Text;
  mask @5 :List(Text);
  unmask @6 :List(Text);
  devices @7 :List(Device);
  groups @8 :List(Text);
  sysctls @9 :List(Pair);
  selinux @10 :Text;
  # The label of its processes, `user:role:type:level`.
  deviceRules @11 :List(DeviceRule);
}

struct Device {
  source @0 :Text;
  target @1 :Text;
  access @2 :Text = "rwm";
}

struct DeviceRule {
  kind @0 :Text;
  # `c`, `b`, or `a` for both.
  major @1 :Int64;
  # -1: any.
  minor @2 :Int64;
  access @3 :Text;
}

struct Namespaces {
  pid @0 :NamespaceMode = private;
  ipc @1 :NamespaceMode = private;
  uts @2 :NamespaceMode = private;
  cgroup @3 :NamespaceMode = private;
  pidContainer @4 :Text;
  # Whose, where `pid` is `container`: filled in by the engine, whatever is written here.
  ipcContainer @5 :Text;
  users @6 :UserNamespace;
}

struct UserNamespace {
  # The users and groups of a container.

  mode @0 :UserMode = host;
  size @1 :UInt32;
  # With `auto`: how many ids of each kind. 0: 65536.
  uids @2 :List(IdRange);
  # With `map` at least the one of root; with `auto` the engine fills them in, whatever is written here.
  gids @3 :List(IdRange);
}

enum UserMode {
  unknown @0;
  host @1;
  # The container's root is the host's.
  auto @2;
  # Ids of the host that no other container has. The container must have its own namespaces of processes, IPC and names.
  map @3;
  # As `uids` and `gids` say.
}

struct IdRange {
  inside @0 :UInt32;
  # The first id, in the container.
  outside @1 :UInt32;
  # Which of the host's that is.
  size @2 :UInt32;
}

enum NamespaceMode {
  unknown @0;
  private @1;
  host @2;
  container @3;
  # Another container's, of those handed over in `Shared`.
}

struct Shared {
  # What a new container has of others, and of the client. What it joins must run when it is started, and its end is the end of all that are
  # in its namespace of processes. References of this connection only.

  pid @0 :Container;
  ipc @1 :Container;
  # With its shared memory.
  mounts @2 :List(SharedMounts);
  # Their directories and files of the host, as they are now; what the spec has at the same place counts more.
  handed @3 :List(HandedMount);
  # Directories and files that the client has opened itself: they are mounted, whatever is at their paths by then.
}

struct HandedMount {
  target @0 :Text;
  # Of a bind of the spec that has no source. A directory or regular file, opened for reading at least; a file that can be written, for both.
  fd @1 :UInt32;
  # Which of the descriptors that came with the call.
}

struct SharedMounts {
  container @0 :Container;
  mode @1 :Text;
  # `ro` or `rw` for all; empty: each as it is.
}

struct Resolution {
  # How names become addresses in a container.

  hosts @0 :List(Text);
  # name:address
  servers @1 :List(Text);
  search @2 :List(Text);
  options @3 :List(Text);
}

struct CreateMode {
  replace @0 :Bool;
  # Removes the container that has the name first, also if it runs.
  key @1 :Text;
}

struct RestartPolicy {
  mode @0 :RestartMode = no;
  maxRetries @1 :UInt32;
  # With `onFailure`; 0: for ever.
}

enum RestartMode {
  unknown @0;
  no @1;
  onFailure @2;
  always @3;
  unlessStopped @4;
}

enum WaitCondition {
  unknown @0;
  notRunning @1;
  nextExit @2;
  removed @3;
  healthy @4;
}

struct ContainerUpdate {
  limits @0 :Limits;
  restart @1 :RestartPolicy;
  # Null: as it is.
}

enum NetworkMode {
  unknown @0;
  none @1;
  host @2;
}

struct Mount {
  # Documented field by field in ross.model.mounts.

  kind @0 :MountKind = bind;
  source @1 :Text;
  target @2 :Text;
  readOnly @3 :Bool;
  propagation @4 :Text = "rprivate";
  recursion @5 :Recursion = enabled;
  options @6 :List(Text);
  relabel @7 :Bool;
  sizeBytes @8 :UInt64;
  mode @9 :UInt16;
  idmap @10 :Bool;
  subpath @11 :Text;
}

enum MountKind {
  unknown @0;
  bind @1;
  tmpfs @2;
  image @3;
  # `source` is what `Images.get` takes, and denotes what it did when the container was created. Always read-only.
}

enum Recursion {
  unknown @0;
  enabled @1;
  disabled @2;
  writable @3;
  readonly @4;
}

struct ContainerFilter {
  # What is given must all be so. Documented field by field in ross.model.containers.ContainerFilter.

  all @0 :Bool;
  # False: only those that are at work, unless states or exit codes are given.
  names @1 :List(Text);
  ids @2 :List(Text);
  states @3 :List(ContainerState);
  exitCodes @4 :List(UInt8);
  labels @5 :List(Text);
  ancestors @6 :List(Text);
  before @7 :Text;
  since @8 :Text;
  last @9 :UInt32;
  sizes @10 :Bool;
  # Measures what they have written, which takes a look at every file of theirs.
  health @11 :List(HealthState);
  volumes @12 :List(Text);
}

struct ContainerInfo {
  id @0 :Text;
  name @1 :Text;
  image @2 :Text;
  imageId @3 :Digest;
  manifest @4 :Digest;
  spec @5 :ContainerSpec;
  command @6 :List(Text);
  state @7 :ContainerState;
  pid @8 :UInt32;
  createdAt @9 :TimeInNs;
  startedAt @10 :TimeInNs;
  outcome @11 :Outcome;
  # Null until it has run.
  error @12 :Text;
  logPath @13 :Text;
  rootfsPath @14 :Text;
  restartCount @15 :UInt32;
  # How often its policy has started it since somebody did.
  writtenBytes @16 :Int64 = -1;
  # -1 where nobody asked for it to be measured, or it cannot be.
  seccomp @17 :Digest;
  # Of the system calls that it is allowed, as its runtime is told; empty if all are.
  health @18 :HealthInfo;
  # Null for one without health checks, and before its first start.
  errorCode @19 :UInt8;
  # Of a last start that failed: 127 if the program is missing, 126 if it cannot be executed, 128 for what else; 0 otherwise.
  checkpoint @20 :CheckpointInfo;
  # Null if there is none.
  restoredAt @21 :TimeInNs;
  # 0 if its last run did not go on from a checkpoint.
  abridged @22 :Bool;
  # Only what is brief of its spec and its command is here; `Container.info` tells all.
  bounds @23 :Bounds;
  # Null in lists.
}

struct Bounds {
  # Documented field by field in ross.model.Bounds.

  pidsLimit @0 :Int64;
  maskedPaths @1 :List(Text);
  readOnlyPaths @2 :List(Text);
}

enum ContainerState {
  unknown @0;
  created @1;
  starting @2;
  running @3;
  stopping @4;
  stopped @5;
  removing @6;
  removed @7;
  paused @8;
  restarting @9;
}

struct Outcome {
  exitCode @0 :UInt8;
  # For a process that a signal ended, 128 + signal.
  signal @1 :UInt8;
  oom @2 :Bool;
  error @3 :Text;
  finishedAt @4 :TimeInNs;
  checkpointed @5 :Bool;
  # It was ended by a checkpoint, from which it can go on.
}

struct AttachOptions {
  stdin @0 :Bool;
  stdout @1 :Bool = true;
  stderr @2 :Bool = true;
  rows @3 :UInt16;
  columns @4 :UInt16;
  pace @5 :Pace = log;
  tail @6 :Int64;
  # By the log: begin with the last so many lines that are there already; -1: with all of them.
  since @7 :TimeInNs;
  # By the log: begin with what is not older than this; `tail` is then of no effect.
}

enum Pace {
  # What becomes of a process's output while this reader is slow.

  unknown @0;
  log @1;
  # The reader reads the log, as far behind as it likes: the process never waits, nothing is lost that the log keeps. Without a log in files: block.
  drop @2;
  # The process never waits; what the reader cannot take is left out, and it is told by `gap`.
  block @3;
  # The process waits.
}

struct ExecOptions {
  # Documented field by field in ross.model.ExecOptions.

  args @0 :List(Text);
  env @1 :List(Text);
  user @2 :Text;
  workingDir @3 :Text;
  terminal @4 :Bool;
  stdin @5 :Bool;
  privileged @6 :Bool;
  rows @7 :UInt16;
  columns @8 :UInt16;
  whenGone @9 :GonePolicy = hup;
  stdio @10 :List(UInt32);
  fds @11 :List(UInt32);
}

enum GonePolicy {
  # What becomes of an executed program when nobody holds it any more.

  unknown @0;
  hup @1;
  # SIGHUP to all of its group, and SIGKILL five seconds later.
  kill @2;
  leave @3;
}

struct ExecInfo {
  id @0 :Text;
  args @1 :List(Text);
  user @2 :Text;
  workingDir @3 :Text;
  terminal @4 :Bool;
  stdin @5 :Bool;
  privileged @6 :Bool;
  whenGone @7 :GonePolicy;
  pid @8 :UInt32;
  startedAt @9 :TimeInNs;
  outcome @10 :Outcome;
  # Null while it runs.
  abridged @11 :Bool;
  # Its arguments are cut off, being too long for a list; `Exec.info` tells all.
}

struct FoundExec {
  info @0 :ExecInfo;
  exec @1 :Exec;
}

struct ProcessTable {
  titles @0 :List(Text);
  rows @1 :List(ProcessRow);
}

struct ProcessRow {
  values @0 :List(Text);
}

struct LogOptions {
  follow @0 :Bool;
  tail @1 :Int64 = -1;
  since @2 :TimeInNs;
  until @3 :TimeInNs;
  stdout @4 :Bool = true;
  stderr @5 :Bool = true;
  after @6 :UInt64;
  # Only what stands behind this position, so that whoever was disconnected goes on exactly where it was; 0: from the beginning.
}

struct LogChunk {
  # A stretch of a log, in the CRI's text form: `time stream P|F text`, a record a line, P if the output's line goes on in the next record
  # of its stream. The time is RFC 3339 with nine digits behind the point and the difference to UTC, so all text begins at the 45th byte.
  # A line of dashes stands in for records that were not asked for.

  position @0 :UInt64;
  # Of its first byte. Positions rise (in a journal, as the host's clock does), and mean nothing else. Reading goes on behind a record at this + the end of the record in `records`.
  records @1 :Data;
  gap @2 :Bool;
  # Something before it was wanted and is not there any more: it made place for newer output.
}

struct HealthCheck {
  # What to find out whether a container is well by: a program that is executed in it again and again, and ends with 0. What is left at its
  # default is as the image has it, then as Docker has it. Documented field by field in ross.model.health.

  test @0 :List(Text);
  # `CMD` and a command, `CMD-SHELL` and a text for a shell, or `NONE`.
  intervalNs @1 :Int64;
  timeoutNs @2 :Int64;
  startPeriodNs @3 :Int64;
  startIntervalNs @4 :Int64;
  retries @5 :Int32;
  onFailure @6 :HealthAction = none;
}

enum HealthAction {
  # What is done about a container that is unhealthy.

  unknown @0;
  none @1;
  kill @2;
  restart @3;
  stop @4;
}

enum HealthState {
  unknown @0;
  starting @1;
  healthy @2;
  unhealthy @3;
  none @4;
  # Without checks, or not started yet. Only in a filter: what is so has no HealthInfo.
}

struct HealthInfo {
  state @0 :HealthState;
  failingStreak @1 :UInt32;
  results @2 :List(HealthResult);
  # The last few since the daemon was started, the oldest first.
}

struct HealthResult {
  startedAt @0 :TimeInNs;
  finishedAt @1 :TimeInNs;
  exitCode @2 :Int32;
  # -1: it took too long, or could not be executed.
  output @3 :Text;
}

struct LogConfig {
  driver @0 :LogDriver = file;
  maxBytes @1 :UInt64 = 10485760;
  # When a file is about this large the next one is begun; 0: never.
  maxFiles @2 :UInt32 = 3;
  tag @3 :Text;
  # Of each line in the journal; empty: the container's name is its identifier there.
}

enum LogDriver {
  unknown @0;
  file @1;
  none @2;
  passthrough @3;
  # Nowhere: who starts it hands it its streams, and nobody attaches to it.
  journald @4;
  # In the journal of the host, which bounds it with everything else.
}

struct Event {
  # Documented field by field in ross.model.events.

  sequence @0 :UInt64;
  # The number of the daemon among those of its root, in the upper 24 bits, and of the event among those of its daemon.
  time @1 :TimeInNs;
  kind @2 :Text;
  action @3 :Text;
  subject @4 :Text;
  name @5 :Text;
  attributes @6 :List(Pair);
  labels @7 :List(Pair);
}

struct EventGap {
  lost @0 :UInt64;
}

struct EventFilter {
  kinds @0 :List(Text);
  actions @1 :List(Text);
  containers @2 :List(Text);
  images @3 :List(Text);
  labels @4 :List(Text);
}

struct EventOptions {
  filter @0 :EventFilter;
  after @1 :UInt64;
  since @2 :TimeInNs;
  until @3 :TimeInNs;
}

struct EventBatch {
  gap @0 :EventGap;
  # Null: nothing is missing.
  events @1 :List(Event);
  position @2 :UInt64;
  ended @3 :Bool;
}
