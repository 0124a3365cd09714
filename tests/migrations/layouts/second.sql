BEGIN TRANSACTION;
CREATE TABLE record_indexes (
                collection TEXT NOT NULL,
                id TEXT NOT NULL,
                field_name TEXT NOT NULL,
                field_value_str TEXT,
                field_value_int INTEGER,
                field_value_bool INTEGER,
                PRIMARY KEY (collection, id, field_name),
                FOREIGN KEY (collection, id) REFERENCES records(collection, id) ON DELETE CASCADE
            );
INSERT INTO "record_indexes" VALUES('tasks','task-00000000','status','review',NULL,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000000','priority',NULL,2,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000001','status','review',NULL,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000001','priority',NULL,0,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000002','priority',NULL,4,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000002','status','review',NULL,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000003','status','review',NULL,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000003','priority',NULL,4,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000004','priority',NULL,6,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000004','status','in_progress',NULL,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000005','priority',NULL,4,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000005','status','in_progress',NULL,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000006','status','review',NULL,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000006','priority',NULL,8,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000007','priority',NULL,8,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000007','status','in_progress',NULL,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000008','priority',NULL,4,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000008','status','in_progress',NULL,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000009','status','in_progress',NULL,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000009','priority',NULL,2,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000010','status','open',NULL,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000010','priority',NULL,3,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000011','status','review',NULL,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000011','priority',NULL,1,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000012','status','blocked',NULL,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000012','priority',NULL,1,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000013','status','blocked',NULL,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000013','priority',NULL,8,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000014','status','blocked',NULL,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000014','priority',NULL,1,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000015','status','blocked',NULL,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000015','priority',NULL,1,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000016','status','review',NULL,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000016','priority',NULL,1,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000017','priority',NULL,0,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000017','status','review',NULL,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000018','priority',NULL,1,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000018','status','review',NULL,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000019','status','review',NULL,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000019','priority',NULL,1,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000020','priority',NULL,8,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000020','status','in_progress',NULL,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000021','priority',NULL,8,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000021','status','in_progress',NULL,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000022','status','in_progress',NULL,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000022','priority',NULL,0,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000023','status','in_progress',NULL,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000023','priority',NULL,0,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000024','priority',NULL,3,NULL);
INSERT INTO "record_indexes" VALUES('tasks','task-00000024','status','open',NULL,NULL);
CREATE TABLE records (
                collection TEXT NOT NULL,
                id TEXT NOT NULL,
                data_json TEXT NOT NULL,
                updated_at INTEGER NOT NULL,
                PRIMARY KEY (collection, id)
            );
INSERT INTO "records" VALUES('tasks','task-00000000','{"id":"task-00000000","title":"Task number 0, revision at line 0","status":"review","priority":2,"body":"line 0 of the generated log; 16757710 55403aa6 59e24825 5e34e7a1 1bbd97ea 326c0aef 7b370806 0834f352 3df48148 34480dd7 7","updated_at":1700000000000}',1700000000000);
INSERT INTO "records" VALUES('tasks','task-00000001','{"id":"task-00000001","title":"Task number 1, revision at line 1","status":"review","priority":0,"body":"line 1 of the generated log; 6a4c7cfa 21106e55 54601369 608e4a2f 670702fd 3a258997 3e6ff724 2d660623 10448a00 540b06b8 6","updated_at":1700000000001}',1700000000001);
INSERT INTO "records" VALUES('tasks','task-00000002','{"id":"task-00000002","title":"Task number 2, revision at line 2","status":"review","priority":4,"body":"line 2 of the generated log; 6ec76b3e 3d9fd348 64e6b19c 59822284 052ac1c5 22f90d9f 74c529cb 3dd2cdb1 19546fd9 74c21c16 1","updated_at":1700000000002}',1700000000002);
INSERT INTO "records" VALUES('tasks','task-00000003','{"id":"task-00000003","title":"Task number 3, revision at line 3","status":"review","priority":4,"body":"line 3 of the generated log; 429e7127 097006f7 5f647ce0 5bdb8513 50742cd7 2ab28c47 37fe18e9 6303e082 6ba47891 148514f6 0","updated_at":1700000000003}',1700000000003);
INSERT INTO "records" VALUES('tasks','task-00000004','{"id":"task-00000004","title":"Task number 4, revision at line 4","status":"in_progress","priority":6,"body":"line 4 of the generated log; 65d18eb6 04810962 43d97537 679a71da 48e34436 5152058f 081ac47d 1cf93e94 0734a427 3353f15a 3","updated_at":1700000000004}',1700000000004);
INSERT INTO "records" VALUES('tasks','task-00000005','{"id":"task-00000005","title":"Task number 5, revision at line 5","status":"in_progress","priority":4,"body":"line 5 of the generated log; 39a8949f 50513d11 3e57407b 69f3d468 142caf48 590b8437 4b53b39b 422a5164 5984acdf 5316ea3b 3","updated_at":1700000000005}',1700000000005);
INSERT INTO "records" VALUES('tasks','task-00000006','{"id":"task-00000006","title":"Task number 6, revision at line 6","status":"review","priority":8,"body":"line 6 of the generated log; 3e2382e3 6ce0a204 4edddeae 62e7acbd 32506e10 41df083f 01a8e642 529718f3 629492b8 73cdff98 5","updated_at":1700000000006}',1700000000006);
INSERT INTO "records" VALUES('tasks','task-00000007','{"id":"task-00000007","title":"Task number 7, revision at line 7","status":"in_progress","priority":8,"body":"line 7 of the generated log; 11fa88cc 38b0d5b3 495ba9f2 65410f4b 7d99d923 499886e7 44e1d55f 77c82bc3 34e49b6f 1390f879 4","updated_at":1700000000007}',1700000000007);
INSERT INTO "records" VALUES('tasks','task-00000008','{"id":"task-00000008","title":"Task number 8, revision at line 8","status":"in_progress","priority":4,"body":"line 8 of the generated log; 77bd47c6 76be9d2e 05f3ee00 4b69d32f 41723f54 74a015af 616f8f19 5eac5ccf 2b743b8b 363046d1 6","updated_at":1700000000008}',1700000000008);
INSERT INTO "records" VALUES('tasks','task-00000009','{"id":"task-00000009","title":"Task number 9, revision at line 9","status":"in_progress","priority":2,"body":"line 9 of the generated log; 4b944daf 428ed0dd 0071b945 4dc335bd 0cbbaa66 7c599457 24a87e37 03dd6fa0 7dc44442 55f33fb2 5","updated_at":1700000000009}',1700000000009);
INSERT INTO "records" VALUES('tasks','task-00000010','{"id":"task-00000010","title":"Task number 10, revision at line 10","status":"open","priority":3,"body":"line 10 of the generated log; 500f3bf3 5f1e35d0 10f85777 46b70e13 2adf692e 652d185f 5afdb0dd 144a372e 06d42a1b 76aa5510 ","updated_at":1700000000010}',1700000000010);
INSERT INTO "records" VALUES('tasks','task-00000011','{"id":"task-00000011","title":"Task number 11, revision at line 11","status":"review","priority":1,"body":"line 11 of the generated log; 23e641dc 2aee697f 0b7622bc 491070a1 7628d441 6ce69707 1e369ffb 397b49ff 592432d3 166d4df1 ","updated_at":1700000000011}',1700000000011);
INSERT INTO "records" VALUES('tasks','task-00000012','{"id":"task-00000012","title":"Task number 12, revision at line 12","status":"blocked","priority":1,"body":"line 12 of the generated log; 47195f6b 25ff6bea 6feb1b13 54cf5d68 6e97eb9f 1386104f 6e534b90 7370a811 74b45e69 353c2a54 ","updated_at":1700000000012}',1700000000012);
INSERT INTO "records" VALUES('tasks','task-00000013','{"id":"task-00000013","title":"Task number 13, revision at line 13","status":"blocked","priority":8,"body":"line 13 of the generated log; 1af06554 71cf9f99 6a68e657 5728bff6 39e156b2 1b3f8ef7 318c3aad 18a1bae1 47046721 54ff2335 ","updated_at":1700000000013}',1700000000013);
INSERT INTO "records" VALUES('tasks','task-00000014','{"id":"task-00000014","title":"Task number 14, revision at line 14","status":"blocked","priority":1,"body":"line 14 of the generated log; 1f6b5398 0e5f048c 7aef848a 501c984b 58051579 041312ff 67e16d54 290e8270 50144cfa 75b63893 ","updated_at":1700000000014}',1700000000014);
INSERT INTO "records" VALUES('tasks','task-00000015','{"id":"task-00000015","title":"Task number 15, revision at line 15","status":"blocked","priority":1,"body":"line 15 of the generated log; 73425982 5a2f383b 756d4fce 5275fada 234e808c 0bcc91a7 2b1a5c72 4e3f9540 226455b2 15793173 ","updated_at":1700000000015}',1700000000015);
INSERT INTO "records" VALUES('tasks','task-00000016','{"id":"task-00000016","title":"Task number 16, revision at line 16","status":"review","priority":1,"body":"line 16 of the generated log; 53e5d5a6 12437596 01befc6d 03cb1084 50544918 2e03f56e 2ec5f9e1 5b462058 62f50cc3 30779be3 ","updated_at":1700000000016}',1700000000016);
INSERT INTO "records" VALUES('tasks','task-00000017','{"id":"task-00000017","title":"Task number 17, revision at line 17","status":"review","priority":0,"body":"line 17 of the generated log; 27bcdb8f 5e13a945 7c3cc7b2 06247312 1b9db42a 35bd7416 71fee8ff 00773329 3545157b 503a94c3 ","updated_at":1700000000017}',1700000000017);
INSERT INTO "records" VALUES('tasks','task-00000018','{"id":"task-00000018","title":"Task number 18, revision at line 18","status":"review","priority":1,"body":"line 18 of the generated log; 2c37c9d3 7aa30e38 0cc365e4 7f184b68 39c172f2 1e90f81e 28541ba6 10e3fab8 3e54fb54 70f1aa21 ","updated_at":1700000000018}',1700000000018);
INSERT INTO "records" VALUES('tasks','task-00000019','{"id":"task-00000019","title":"Task number 19, revision at line 19","status":"review","priority":1,"body":"line 19 of the generated log; 000ecfbd 467341e7 07413129 0171adf6 050ade05 264a76c6 6b8d0ac4 36150d88 10a5040c 10b4a302 ","updated_at":1700000000019}',1700000000019);
INSERT INTO "records" VALUES('tasks','task-00000020','{"id":"task-00000020","title":"Task number 20, revision at line 20","status":"in_progress","priority":8,"body":"line 20 of the generated log; 2341ed4b 41844452 6bb6297f 0d309abd 7d79f563 4ce9f00e 3ba9b658 700a6b9a 2c352fa2 2f837f65 ","updated_at":1700000000020}',1700000000020);
INSERT INTO "records" VALUES('tasks','task-00000021','{"id":"task-00000021","title":"Task number 21, revision at line 21","status":"in_progress","priority":8,"body":"line 21 of the generated log; 7718f335 0d547801 6633f4c4 0f89fd4b 48c36076 54a36eb6 7ee2a576 153b7e6a 7e85385a 4f467846 ","updated_at":1700000000021}',1700000000021);
INSERT INTO "records" VALUES('tasks','task-00000022','{"id":"task-00000022","title":"Task number 22, revision at line 22","status":"in_progress","priority":0,"body":"line 22 of the generated log; 7b93e179 29e3dcf4 76ba92f6 087dd5a1 66e71f3d 3d76f2be 3537d81d 25a845f9 07951e33 6ffd8da4 ","updated_at":1700000000022}',1700000000022);
INSERT INTO "records" VALUES('tasks','task-00000023','{"id":"task-00000023","title":"Task number 23, revision at line 23","status":"in_progress","priority":0,"body":"line 23 of the generated log; 4f6ae762 75b410a3 71385e3b 0ad7382f 32308a50 45307166 7870c73a 4ad958ca 59e526ea 0fc08685 ","updated_at":1700000000023}',1700000000023);
INSERT INTO "records" VALUES('tasks','task-00000024','{"id":"task-00000024","title":"Task number 24, revision at line 24","status":"open","priority":3,"body":"line 24 of the generated log; 352da65b 33c1d81e 2dd0a249 70fffc12 7608f081 7038002f 14fe80f4 31bd89d5 5074c706 325fd4dd ","updated_at":1700000000024}',1700000000024);
CREATE TABLE sync_metadata (
                collection TEXT PRIMARY KEY,
                last_sync_time INTEGER NOT NULL,
                file_mtime INTEGER NOT NULL
            );
INSERT INTO "sync_metadata" VALUES('tasks',1700000000000,1700000000);
CREATE INDEX idx_records_collection ON records(collection);
CREATE INDEX idx_records_updated_at ON records(collection, updated_at);
CREATE INDEX idx_record_indexes_field_str ON record_indexes(collection, field_name, field_value_str);
CREATE INDEX idx_record_indexes_field_int ON record_indexes(collection, field_name, field_value_int);
CREATE INDEX idx_record_indexes_field_bool ON record_indexes(collection, field_name, field_value_bool);
COMMIT;
